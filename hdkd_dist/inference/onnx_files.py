"""The network as ONNX: one file per stage, for early exit, and one of the full network."""

from __future__ import annotations

import json
import logging
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from hdkd_dist.models import Staged

BATCH = torch.export.Dim.DYNAMIC
TOLERANCE = 1e-4  # of the largest value of an output


class Stage(nn.Module):
    """Stage ``k`` and its exit, with the state as separate inputs and outputs."""

    def __init__(self, network: Staged, k: int) -> None:
        super().__init__()
        self.network = network
        self.k = k

    def forward(self, *state: Tensor) -> tuple[Tensor, ...]:
        """Give the next state, then the logits [B, C]."""
        following, logits = self.network.run_stage(self.k, list(state))
        return (*following, logits)


class Full(nn.Module):
    """All exits at once."""

    def __init__(self, network: Staged) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits [K, B, C]."""
        return self.network(images)


@torch.no_grad()
def write_onnx(network: Staged, description: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write and check ``full.onnx`` and ``stage_1.onnx``, …, each for any batch size.

    ``full.onnx`` maps ``images`` to ``logits`` [K, B, C]. Stage 1 takes ``images`` and gives the
    maps ``stage_1_map_0``, … (finest first) and ``logits`` [B, C]; stage 2 takes those maps by
    those names and gives ``stage_2_map_0``, …; and so on. Images are normalised:
    [B, 3, size, size] float32.

    Args:
        network: in evaluation mode, on the CPU.
        description: of the network, as ``model.json`` has it; what a runner needs goes into the
            metadata of every file.
        folder: is made.

    Returns:
        the files.

    Raises:
        ValueError: if onnxruntime does not give what torch gives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = description["preprocessing"]["size"]
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    full = Graph(Full(network).eval(), ["images"], ["logits"])
    files = [folder / "full.onnx"]
    _export(full, [images], _metadata(description, "all"), files[0])
    state, inputs = [images], ["images"]
    for k in range(network.num_exits):
        stage = Stage(network, k).eval()
        following = stage(*state)[:-1]
        outputs = [f"stage_{k + 1}_map_{i}" for i in range(len(following))]
        files.append(folder / f"stage_{k + 1}.onnx")
        graph = Graph(stage, inputs, [*outputs, "logits"])
        _export(graph, state, _metadata(description, k + 1), files[-1])
        state, inputs = list(following), outputs
    return files


def _metadata(description: Mapping[str, Any], exit_: int | str) -> dict[str, str]:
    """Collect what a runner needs beside the graph; every value is JSON.

    Args:
        description: as ``model.json`` has it.
        exit_: the exit whose logits the file gives, 1-based, or "all".
    """
    budgets = [
        {name: row[name] for name in ("budget_mmac", "thresholds")}
        for row in description["budgets"]
    ]
    values = {
        "exit": exit_,
        **{name: description[name] for name in ("classes", "preprocessing", "temperatures")},
        "budgets": budgets,
    }
    return {name: json.dumps(value, allow_nan=False) for name, value in values.items()}


@dataclass(frozen=True)
class Graph:
    """A module with the names of its inputs and outputs; the first axis of the inputs is B."""

    module: nn.Module
    inputs: Sequence[str]
    outputs: Sequence[str]


def _export(
    graph: Graph, inputs: Sequence[Tensor], metadata: Mapping[str, str], file: Path
) -> None:
    shapes = tuple({0: "batch"} for _ in inputs)
    with _quiet(), _refused("ONNX", file):
        exported = torch.onnx.export(
            graph.module,
            tuple(inputs),
            dynamo=True,
            dynamic_shapes=(shapes,) if isinstance(graph.module, Stage) else shapes,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            verbose=False,
            external_data=False,
        )
        program = cast(torch.onnx.ONNXProgram, exported)  # with dynamo=True never None
        program.model.metadata_props.update(metadata)
        program.save(file)
    _check(graph, inputs, file)


def _check(graph: Graph, inputs: Sequence[Tensor], file: Path) -> None:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for size in (len(inputs[0]), 1):  # another batch size than the one it was traced with
        part = [each[:size] for each in inputs]
        expected = graph.module(*part)
        expected = [expected] if isinstance(expected, Tensor) else expected
        arrays = [each.numpy() for each in part]
        found = session.run(None, dict(zip(graph.inputs, arrays, strict=True)))
        for theirs, ours in zip(found, expected, strict=True):
            scale = max(1.0, float(ours.abs().max()))
            difference = float(np.abs(theirs - ours.numpy()).max()) / scale
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"{file}: onnxruntime gives other values than torch (relative difference "
                    f"{difference:.1e}): try other versions of onnxruntime and torch"
                )


@contextmanager
def _refused(form: str, file: Path) -> Iterator[None]:
    """Turn what torch raises of a network that it cannot export into one line."""
    try:
        yield
    except Exception as error:  # its exporters raise nearly anything on code of the user's own
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" …")
        raise ValueError(
            f"torch cannot write {file.name} as {form} ({reason}): give --onnx false, and the "
            "torch runtime serves the folder"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings of its own deprecations, and of torchvision."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def write_torch_export(network: Staged, image_size: int, file: Path) -> None:
    """Write the full network with ``torch.export``: images [B, 3, H, W] → logits [K, B, C]."""
    images = torch.zeros(2, 3, image_size, image_size)
    with _quiet(), torch.no_grad(), _refused("torch.export", file):
        program = torch.export.export(Full(network).eval(), (images,), dynamic_shapes=({0: BATCH},))
        torch.export.save(program, file)
