"""The stages in onnxruntime: needs numpy and onnxruntime, and no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import onnxruntime

from hdkd_dist.inference.exported import AGAIN, Exported
from hdkd_dist.inference.runtime import Compaction, top_probability

CPU = "CPUExecutionProvider"
AT_A_TIME = 32  # images per thread on a CPU: their maps stay in its cache
QUIET = 3  # errors only


class OnnxStages:
    """A network's stages as onnxruntime sessions.

    Each session's outputs but the last are the next one's inputs, in that order; the last are the
    logits. States are numpy arrays: with a provider on another device they are copied to it and
    back between stages.

    Args:
        exported: a folder with ONNX files.
        threads: of each stage; default one per core that this process may use.
        providers: onnxruntime's names, the first that can run a node runs it.

    Raises:
        ValueError: for files that are missing, damaged or of another network, outputs that are not
            finite, or a provider that this onnxruntime does not have.
    """

    def __init__(
        self, exported: Exported, threads: int | None = None, providers: Sequence[str] = (CPU,)
    ) -> None:
        known = onnxruntime.get_available_providers()
        for name in providers:
            if name not in known:
                raise ValueError(
                    f"this onnxruntime has no provider {name}: choose from {', '.join(known)}, or "
                    f"install the build that has it"
                )
        self.num_exits = len(exported.exits)
        threads = threads or len(os.sched_getaffinity(0))
        self.at_a_time = AT_A_TIME * threads if list(providers) == [CPU] else None
        options = _options(threads)
        self.sessions = []
        for file in exported.stage_files():
            exported.require_own(file)
            try:
                session = onnxruntime.InferenceSession(file, options, providers=list(providers))
            except Exception as error:  # onnxruntime has an exception of its own for each fault
                raise ValueError(f"onnxruntime cannot load {file} ({error}): {AGAIN}") from None
            self.sessions.append(session)
        self.inputs = [[each.name for each in s.get_inputs()] for s in self.sessions]
        self._try_out(exported)

    def begin(self, images: np.ndarray) -> list[np.ndarray]:
        """Give the first state of images [B, 3, H, W]."""
        return [np.ascontiguousarray(images, np.float32)]

    def run(self, k: int, state: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        """Run stage ``k`` (0-based): the next state, and logits [B, C]."""
        *state, logits = self.sessions[k].run(None, dict(zip(self.inputs[k], state, strict=True)))
        return state, logits

    def keep(self, state: list[np.ndarray], compaction: Compaction) -> list[np.ndarray]:
        """Give the state of those who stay."""
        return [compaction.apply(rows) for rows in state]

    def _try_out(self, exported: Exported) -> None:
        """Run one image, so that what cannot run is refused before the first answer."""
        size = exported.preprocessing.size
        gray = np.full((1, size, size, 3), 128, np.uint8)
        state = self.begin(exported.preprocessing.normalize(gray))
        for k, file in enumerate(exported.stage_files()):
            try:
                state, logits = self.run(k, state)
                top_probability(logits)
                if logits.shape != (1, len(exported.classes)):
                    raise ValueError(f"it gives logits of the shape {list(logits.shape)}")
            except Exception as error:
                raise ValueError(
                    f"{file} does not run as {exported.folder} describes it ({error}): {AGAIN}"
                ) from None


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = QUIET
    options.enable_mem_pattern = False  # it pays only where all batches have one size
    # The threads of a stage that has ended would keep a core busy while the next stage runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
