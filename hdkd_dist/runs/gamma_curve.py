"""The control of "learning γ helps": another run's Σγ/Σγ₀, replayed without its proportions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hdkd_dist.runs import names
from hdkd_dist.runs.metrics import METRICS, read_metrics


@dataclass(frozen=True)
class SumCurve:
    """Course of Σγ/Σγ₀ in a run, linear between the steps at which it was recorded."""

    steps: Sequence[int]  # rising, from 0 on
    ratios: Sequence[float]

    def at(self, step: int) -> float:
        """Return Σγ/Σγ₀ after ``step`` steps; beyond the last record its value."""
        after = bisect_right(self.steps, step)
        if after == len(self.steps):
            return self.ratios[-1]
        (start, end), (low, high) = (
            (values[after - 1], values[after]) for values in (self.steps, self.ratios)
        )
        return low + (high - low) * (step - start) / (end - start)

    @property
    def mean(self) -> float:
        """Average over the steps up to the last record."""
        pieces = zip(self.steps, self.steps[1:], self.ratios, self.ratios[1:], strict=False)
        return sum((end - start) * (a + b) / 2 for start, end, a, b in pieces) / self.steps[-1]


def read_sum_curve(folder: Path) -> SumCurve:
    """Read the curve of the run in ``folder``, which starts at 1.

    Raises:
        ValueError: if its ``metrics.jsonl`` cannot be read or has no such record.
    """
    try:
        events = read_metrics(folder)
    except OSError as error:
        raise ValueError(
            f"hdkd.gamma.replay_sum: {folder / METRICS} cannot be read ({error.strerror}): name "
            "the folder of a finished run"
        ) from None
    points = [(e["step"], e[names.GAMMA_SUM]) for e in events if names.GAMMA_SUM in e]
    if not points:
        raise ValueError(
            f"hdkd.gamma.replay_sum: {folder / METRICS} has no {names.GAMMA_SUM}: name the folder "
            "of a run that has trained"
        )
    return SumCurve([0, *(step for step, _ in points)], [1.0, *(ratio for _, ratio in points)])
