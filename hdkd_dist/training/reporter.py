"""Reports of a run while it trains: progress on the console, events for the tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hdkd_dist.method.objective import LossLayout
from hdkd_dist.method.state import LossWeights
from hdkd_dist.models.accuracy import percentages
from hdkd_dist.runs import names
from hdkd_dist.runs.results import ExitRow
from hdkd_dist.training.build import Run
from hdkd_dist.training.console import StepRecord, open_console
from hdkd_dist.training.health import Health, HealthRecord, memory_in_use, peak_memory_mb
from hdkd_dist.training.measure import Pace, Progress, Summary
from hdkd_dist.training.tracking import Tracker, warn


class Reporter:
    """Reporter of the run on rank 0; silent, with the same calls, on the others."""

    def __init__(self, run: Run, tracker: Tracker | None, progress: Progress):
        self.layout = LossLayout(run.engine.module.num_exits, run.settings.loss.term_names)
        self.weights = run.weights
        self.epochs = run.settings.schedule.epochs
        self.tracker = tracker
        self._last_record = progress.pace.now
        self._health = Health(run.settings.data.workers, run.device)
        self._console = open_console(run.steps, self.epochs, progress.step, tracker is not None)

    def step(self, step: int, epoch: int, rate: float, summary: Summary, pace: Pace) -> None:
        """Record the means over the steps since the last record."""
        if self.tracker is None:
            return
        weights = self.weights
        norms = {
            names.GRADIENT: summary.gradient_norm,
            names.HYPERGRADIENT: summary.hypergradient_norm,
        }
        images_per_second, waiting = pace.since(self._last_record)
        self._last_record = pace.now
        self.tracker.record(
            "step",
            {
                "step": step,
                "epoch": epoch,
                "lr": rate,
                **by_member(names.LOSS, self.layout.names, summary.losses),
                **per_exit(names.TRAIN_TOP1, summary.top1),
                **gamma_values(weights, self.layout),
                "temperature": float(weights.temperature),
                **{name: norm for name, norm in norms.items() if norm is not None},
                names.IMAGES_PER_S: images_per_second,
                names.WAITING: waiting,
                "peak_memory_mb": peak_memory_mb(weights.gamma.device),
            },
        )
        device, ratio = weights.gamma.device, float(weights.sum_ratio)
        record = HealthRecord(
            pace.elapsed, images_per_second, waiting, memory_in_use(device), ratio
        )
        for warning in self._health.warnings(record):
            warn(warning)
        exits = self.layout.num_exits
        exist = weights.exists.tolist()
        taught = [
            loss for loss, exists in list(zip(summary.losses, exist, strict=True))[exits:] if exists
        ]
        self._console.record(
            StepRecord(
                step=step,
                epoch=epoch + 1,
                rate=rate,
                cross_entropies=summary.losses[:exits],
                distillation=sum(taught) / len(taught) if taught else None,
                sum_ratio=ratio,
                images_per_s=images_per_second,
            )
        )

    def epoch(self, step: int, epoch: int, counts: Tensor) -> None:
        """Record validation accuracy, from :func:`count_correct`'s counts."""
        if self.tracker is None:
            return
        top1, top5 = percentages(counts)
        values = {**per_exit(names.VAL_TOP1, top1), **per_exit(names.VAL_TOP5, top5)}
        self.tracker.record("epoch", {"step": step, "epoch": epoch, **values})
        shown = " ".join(f"{value:.2f}" for value in top1)
        self._console.note(f"epoch {epoch + 1}/{self.epochs}  validation top-1 per exit: {shown}")

    def finish(self, step: int, rows: Sequence[ExitRow], pictures: Sequence[Path]) -> None:
        """Record the final accuracies, from the rows of ``results.json``, and the pictures.

        The progress ends here: what is printed afterwards has lines of its own.
        """
        self._console.close()
        if self.tracker is None:
            return
        values: dict[str, float] = {}
        measured: Sequence[Mapping[str, Any]] = rows
        for group, column in ACCURACIES.items():
            if column in measured[0]:
                values |= per_exit(group, [row[column] for row in measured])
        self.tracker.record("end", {"step": step, **values})
        self.tracker.show(pictures)

    def close(self) -> None:
        """End the progress and the tracker."""
        self._console.close()
        if self.tracker is not None:
            self.tracker.close()


ACCURACIES = {  # name of a metric → column of the rows of results.json
    names.VAL_TOP1: "val_top1",
    names.VAL_TOP5: "val_top5",
    names.TEST_TOP1: "top1",
    names.TEST_TOP5: "top5",
}


def by_member(group: str, members: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Name values ``{"group/member": value, …}``."""
    return {f"{group}/{name}": value for name, value in zip(members, values, strict=True)}


def per_exit(group: str, values: Sequence[float]) -> dict[str, float]:
    """Name the values of all exits ``{"group/exit_1": value, …}``."""
    return by_member(group, [f"exit_{k + 1}" for k in range(len(values))], values)


def gamma_values(weights: LossWeights, layout: LossLayout) -> dict[str, Any]:
    """List every entry of γ that the method has, Σγ/Σγ₀, and E_k once it is known."""
    entries = zip(layout.names, weights.gamma.tolist(), weights.exists.tolist(), strict=True)
    averages = [] if weights.meta.average_ce is None else weights.meta.average_ce.tolist()
    return {
        **{f"{names.GAMMA}/{name}": value for name, value, exists in entries if exists},
        names.GAMMA_SUM: float(weights.sum_ratio),
        **per_exit(names.AVERAGE_CE, averages),
    }
