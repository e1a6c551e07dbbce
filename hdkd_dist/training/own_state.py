"""What only one rank has of a run: running statistics, random states, measurements.

Reading unpickles.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdkd_dist.training import ranks
from hdkd_dist.training.meter import Meter
from hdkd_dist.training.progress import Progress
from hdkd_dist.training.run import Run


def own_file(rank: int) -> str:
    """The name of a rank's own file."""
    return f"rank_{rank:05d}.pt"


def own_state(run: Run, progress: Progress) -> dict[str, Any]:
    """What only this rank has."""
    device = run.device
    on_device = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state()
    return {
        "buffers": dict(run.engine.module.named_buffers()),
        "meter": progress.meter.state(),
        "random": {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "device": on_device,
        },
    }


def restore_own(run: Run, progress: Progress, folder: Path, world_size: int) -> None:
    """The inverse of :func:`own_state`.

    Another number of ranks than wrote it: each gets the mean of all running statistics, as an
    evaluation would see them, and its share of the measurements.
    """

    def read(rank: int) -> dict[str, Any]:
        return torch.load(folder / own_file(rank), map_location="cpu", weights_only=False)

    if world_size == ranks.world_size():
        own = read(ranks.rank())
        buffers, meter = own["buffers"], own["meter"]
    else:
        parts = [read(rank) for rank in range(world_size)]
        own = parts[ranks.rank() % world_size]
        buffers = merged(parts, "buffers", mean_of_floating)
        meter = Meter.merged([part["meter"] for part in parts], ranks.world_size())
    with torch.no_grad():
        for name, buffer in run.engine.module.named_buffers():
            buffer.copy_(buffers[name])
    progress.meter.restore(meter)
    states = own["random"]
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["device"] is not None and run.device.type != "cpu":
        torch.get_device_module(run.device).set_rng_state(states["device"])


def merged(
    parts: list[dict[str, Any]], key: str, merge: Callable[[list[Tensor]], Tensor]
) -> dict[str, Tensor]:
    """The tensors under ``key`` of all ranks, merged by name."""
    return {name: merge([part[key][name] for part in parts]) for name in parts[0][key]}


def mean_of_floating(values: list[Tensor]) -> Tensor:
    """The mean; of whole numbers, which count the same on all ranks, the first."""
    return torch.stack(values).mean(dim=0) if values[0].is_floating_point() else values[0]
