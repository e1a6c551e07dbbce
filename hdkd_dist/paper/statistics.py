"""Differences between methods, paired over seeds, with a confidence interval, and what they decide.

Seeds are the independent repetitions: the exits of one network are not, so that a quantity is first
averaged over the exits in question, per seed. The interval of the mean over seeds is Student's t.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import t as student

LEVEL = 0.95
MARGIN = 1.0  # points of accuracy: less than that does not matter

Verdict = Literal["confirmed", "refuted", "undecided", "not enough runs yet"]
Statement = Literal["above 0", "below 0", "above −1", "below 1", "within ±1"]


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and where it may lie."""

    seeds: int
    mean: float
    low: float
    high: float


def interval(differences: Sequence[float]) -> Interval | None:
    """The t-interval of the mean; None for fewer than two values."""
    n = len(differences)
    if n < 2:
        return None
    mean = statistics.fmean(differences)
    half = student.ppf((1 + LEVEL) / 2, n - 1) * statistics.stdev(differences) / math.sqrt(n)
    return Interval(n, mean, mean - float(half), mean + float(half))


# What is stated of a difference → where it must lie.
RANGES: dict[Statement, tuple[float, float]] = {
    "above 0": (0, math.inf),
    "below 0": (-math.inf, 0),
    "above −1": (-MARGIN, math.inf),
    "below 1": (-math.inf, MARGIN),
    "within ±1": (-MARGIN, MARGIN),
}


def judge(found: Interval | None, statement: Statement) -> Verdict:
    """Confirmed where all of it lies in the stated range, refuted where none of it does."""
    if found is None:
        return "not enough runs yet"
    low, high = RANGES[statement]
    if low < found.low and found.high < high:
        return "confirmed"
    if found.high <= low or high <= found.low:
        return "refuted"
    return "undecided"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """That of a claim which says several things at once."""
    for verdict in ("refuted", "not enough runs yet", "undecided"):
        if verdict in verdicts:
            return verdict
    return "confirmed"
