"""The network as ONNX: one file per stage, for early exit, and one of the full network."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from hdkd_dist.models import MultiExitNetwork

BATCH = torch.export.Dim.DYNAMIC
TOLERANCE = 1e-4  # of the largest value of an output


class Stage(nn.Module):
    """A stage and its classifier, with the state as separate inputs and outputs."""

    def __init__(self, network: MultiExitNetwork, k: int) -> None:
        super().__init__()
        self.stage = network.stages[k]
        self.classifier = network.classifiers[k]

    def forward(self, *state: Tensor) -> tuple[Tensor, ...]:
        """Give the next state, then the logits [B, C]."""
        following = self.stage(list(state))
        return (*following, self.classifier(following[-1]))


class Full(nn.Module):
    """All exits at once."""

    def __init__(self, network: MultiExitNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits [K, B, C]."""
        return self.network(images)


@torch.no_grad()
def write_onnx(network: MultiExitNetwork, image_size: int, folder: Path) -> list[Path]:
    """Write and check ``full.onnx`` and ``stage_1.onnx``, …, each with any batch size.

    Stage 1 takes ``images``; later ones take ``state_0``, … as the stage before gives them
    (``next_0``, …). Every stage also gives ``logits``. Images are normalised:
    [B, 3, size, size] float32.

    Raises:
        ValueError: if onnxruntime does not give what torch gives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, image_size, image_size, generator=generator)
    files = [folder / "full.onnx"]
    _export(Full(network).eval(), [images], ["images"], ["logits"], files[0])
    state = [images]
    for k in range(network.num_exits):
        stage = Stage(network, k).eval()
        following = stage(*state)[:-1]
        inputs = [f"state_{i}" for i in range(len(state))] if k else ["images"]
        outputs = [*(f"next_{i}" for i in range(len(following))), "logits"]
        files.append(folder / f"stage_{k + 1}.onnx")
        _export(stage, state, inputs, outputs, files[-1])
        state = list(following)
    return files


def _export(
    module: nn.Module, inputs: list[Tensor], names: list[str], outputs: list[str], file: Path
) -> None:
    shapes = {0: BATCH}
    star = isinstance(module, Stage)
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(inputs),
            dynamo=True,
            dynamic_shapes=(tuple(shapes for _ in inputs),) if star else (shapes,),
            input_names=names,
            output_names=outputs,
            verbose=False,
            external_data=False,
        )
        program.save(file)
    _check(module, inputs, names, file)


def _check(module: nn.Module, inputs: list[Tensor], names: list[str], file: Path) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size in (len(inputs[0]), 1):  # another batch size than the one it was traced with
        part = [each[:size] for each in inputs]
        expected = module(*part)
        expected = [expected] if isinstance(expected, Tensor) else expected
        found = session.run(None, {n: each.numpy() for n, each in zip(names, part, strict=True)})
        for theirs, ours in zip(found, expected, strict=True):
            scale = max(1.0, float(ours.abs().max()))
            difference = float(np.abs(theirs - ours.numpy()).max()) / scale
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"{file}: onnxruntime gives other values than torch (relative difference "
                    f"{difference:.1e}): try other versions of onnxruntime and torch"
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own deprecations and of torchvision, which nothing here needs."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def write_torch_export(network: MultiExitNetwork, image_size: int, file: Path) -> None:
    """Write the full network with ``torch.export``: images [B, 3, H, W] → logits [K, B, C]."""
    images = torch.zeros(2, 3, image_size, image_size)
    with _quiet(), torch.no_grad():
        program = torch.export.export(Full(network).eval(), (images,), dynamic_shapes=({0: BATCH},))
        torch.export.save(program, file)
