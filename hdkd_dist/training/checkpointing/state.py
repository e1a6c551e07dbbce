"""State of a run: its tensors and numbers, written to a checkpoint and read back.

DeepSpeed writes and reads θ, its optimiser and the schedule; γ, E_k, T, γ's optimiser and the
position travel in its client state. What each rank has of its own (running statistics, random
states, measurements since the last record) is a file per rank.

Reading unpickles: a checkpoint is code, to be loaded only by those who trust who wrote it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine
from torch import Tensor

from hdkd_dist.distributed import ranks
from hdkd_dist.training.build import Run
from hdkd_dist.training.checkpointing.files import FileChecksum, write_checked
from hdkd_dist.training.engine import restarted
from hdkd_dist.training.measure import Meter, Pace, Progress


def own_file(rank: int) -> str:
    """Name a rank's own file."""
    return f"rank_{rank:05d}.pt"


def own_state(run: Run, progress: Progress) -> dict[str, Any]:
    """Collect what only this rank has."""
    device = run.device
    on_device = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state()
    return {
        "buffers": dict(run.engine.module.named_buffers()),
        "averaged_buffers": {} if run.average is None else run.average.buffers,
        "meter": progress.meter.state(),
        "random": {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "device": on_device,
        },
    }


def restore_own(
    run: Run, progress: Progress, folder: Path, world_size: int
) -> Mapping[str, Tensor]:
    """Restore what :func:`own_state` collected; the averaged buffers are returned.

    Another number of ranks than wrote it: each gets the mean of all running statistics, as an
    evaluation would see them, and its share of the measurements.
    """

    def read(rank: int) -> dict[str, Any]:
        return torch.load(folder / own_file(rank), map_location="cpu", weights_only=False)

    if world_size == ranks.world_size():
        own = read(ranks.rank())
        buffers, meter = own["buffers"], own["meter"]
        averaged = own.get("averaged_buffers", {})
    else:
        parts = [read(rank) for rank in range(world_size)]
        own = parts[ranks.rank() % world_size]
        buffers = merged(parts, "buffers", mean_of_floating)
        known = "averaged_buffers" in own
        averaged = merged(parts, "averaged_buffers", mean_of_floating) if known else {}
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
    return averaged


def merged(
    parts: list[dict[str, Any]], key: str, merge: Callable[[list[Tensor]], Tensor]
) -> dict[str, Tensor]:
    """Merge the tensors under ``key`` of all ranks by name."""
    return {name: merge([part[key][name] for part in parts]) for name in parts[0][key]}


def mean_of_floating(values: list[Tensor]) -> Tensor:
    """Return the mean; of whole numbers, which count the same on all ranks, the first."""
    return torch.stack(values).mean(dim=0) if values[0].is_floating_point() else values[0]


KEY = "hdkd"  # in DeepSpeed's client state


class CarefulEngine(TorchCheckpointEngine):
    """DeepSpeed's writer of files, with checksums, and with failures kept for later.

    An error raised by one rank in the midst of DeepSpeed's saving would leave the others waiting.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, FileChecksum] = {}
        self.failure: Exception | None = None

    def save(self, state_dict: Mapping[str, Any], path: str) -> None:
        """Write one file; a failure is kept in ``failure``."""
        try:
            self.files[Path(path).name] = write_checked(state_dict, Path(path))
        except (OSError, RuntimeError) as error:  # the latter by torch's writer
            self.failure = error


def write_snapshot(
    run: Run, progress: Progress, folder: Path, extra: Mapping[str, Any]
) -> tuple[dict[str, FileChecksum], str | None]:
    """Write the run's state into ``folder``, which exists; collective.

    Args:
        run: on each rank.
        progress: on each rank.
        folder: seen by all ranks.
        extra: what rank 0 wants to find again.

    Returns:
        The files of all ranks, and what went wrong on the first rank on which something did.
    """
    writer = CarefulEngine()
    run.engine._copy_recovery_script = lambda folder: None  # on rank 0, not by the writer
    before, run.engine.checkpoint_engine = run.engine.checkpoint_engine, writer
    try:
        shared = {KEY: {**shared_state(run, progress), "extra": dict(extra)}}
        run.engine.save_checkpoint(
            str(folder.parent), tag=folder.name, client_state=shared, save_latest=False
        )
    finally:
        run.engine.checkpoint_engine = before
    writer.save(own_state(run, progress), str(folder / own_file(ranks.rank())))
    reports: list[Any] = [None] * ranks.world_size()
    report = (writer.files, None if writer.failure is None else str(writer.failure))
    dist.all_gather_object(reports, report, group=ranks.host_group())
    files = {name: written for part, _ in reports for name, written in part.items()}
    failures = [f"{failure} (rank {rank})" for rank, (_, failure) in enumerate(reports) if failure]
    return files, failures[0] if failures else None


def read_snapshot(run: Run, folder: Path, world_size: int, changed: bool) -> tuple[Progress, Any]:
    """Put the run back to where ``folder``'s checkpoint was written; collective.

    Args:
        run: freshly built; its engine, γ and buffers are overwritten.
        folder: a verified checkpoint.
        world_size: the number of ranks that wrote it.
        changed: whether the configuration is another; its optimiser's and schedule's settings then
            hold from here on.

    Returns:
        The position, and ``extra`` of :func:`write_snapshot`.
    """
    settings = [hyperparameters(o) for o in optimizers_of(run)]
    _, client = run.engine.load_checkpoint(str(folder.parent), tag=folder.name)
    shared = client[KEY]
    restore_shared(run, shared)
    progress = Progress(
        meter=Meter(run.engine.module.num_exits, run.device, run.settings.loss.term_names),
        pace=Pace(**shared["pace"]),
        **{name: shared[name] for name in ("step", "epoch", "metaval_batches", "validation")},
    )
    buffers = restore_own(run, progress, folder, world_size)
    if run.average is not None:
        run.average.restore(shared["averaged_parameters"], buffers)
    if changed:
        for optimizer, groups in zip(optimizers_of(run), settings, strict=True):
            for group, values in zip(optimizer.param_groups, groups, strict=True):
                group.update(values)
        run.engine.lr_scheduler = restarted(
            run.engine.lr_scheduler.optimizer,
            run.settings.schedule,
            run.share.batch,
            run.steps_per_epoch,
            progress.step,
        )
    return progress, shared["extra"]


def shared_state(run: Run, progress: Progress) -> dict[str, Any]:
    """Collect what all ranks hold alike, besides θ and its optimiser."""
    return {
        **run.weights.state_dict(),
        "averaged_parameters": {} if run.average is None else run.average.parameters,
        "step": progress.step,
        "epoch": progress.epoch,
        "metaval_batches": progress.metaval_batches,
        "validation": progress.validation,
        "pace": {
            "images": progress.pace.images,
            "seconds": progress.pace.elapsed,
            "waiting": progress.pace.waiting,
        },
    }


def restore_shared(run: Run, shared: Mapping[str, Any]) -> None:
    """Restore what :func:`shared_state` collected; γ in place, for its optimiser holds it."""
    run.weights.load_state_dict(shared)


def optimizers_of(run: Run) -> list[torch.optim.Optimizer]:
    """List θ's optimiser and, where γ learns, γ's."""
    gamma = run.weights.optimizer
    return [run.engine.lr_scheduler.optimizer, *([] if gamma is None else [gamma])]


def hyperparameters(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """List the settings of every group of parameters."""
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
