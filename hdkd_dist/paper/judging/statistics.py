"""Estimate differences between methods, paired over seeds, and decide statements about them.

Seeds are the independent repetitions: the exits of one network are not, so that a quantity is first
averaged over the exits in question, per seed. Three to eight seeds say little about the noise of
their own difference, so that the noise is taken from all runs together: what a quantity keeps when
the effect of each method and that of each seed are taken out (a two-way analysis of variance).

Two questions are asked of a difference: its sign, and its size against the paper's.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit as student_quantile  # scipy.stats is slow to import

LEVEL = 0.95
# After so many seeds the primary statements are looked at. With four looks a true null hypothesis
# is rejected at one of them in 5 % of all studies if each look has the two-sided level .0182: 2.36
# standard errors in place of 1.96 (Pocock 1977). Here that is Student's t at the same level.
LOOKS = (3, 4, 6, 8)
LOOK_LEVEL = 1 - 0.0182
MARGIN = 1.0  # points of accuracy: less than that does not matter
SMALLER = 0.5  # below this part of the paper's effect, an effect is smaller than the paper's

Statement = Literal["above 0", "below 0", "above −1", "within ±1"]
Sign = Literal["confirmed", "reversed", "refuted", "undecided", "not enough runs yet"]
Size = Literal[
    "smaller than the paper's", "compatible with the paper's", "undecided", "not enough runs yet"
]


@dataclass(frozen=True)
class RunKey:
    """Name what distinguishes a run, for the noise."""

    data: str  # runs on the same data share their seeds' luck
    method: str  # with its variant
    seed: str


@dataclass(frozen=True)
class Noise:
    """Measure how a run varies around its method and seed."""

    deviation: float  # standard deviation, in points
    freedom: int  # degrees of freedom of that estimate


def noise_of(values: Mapping[RunKey, float]) -> Noise | None:
    """Return the residual of the additive model method + seed; None where nothing is left of it."""
    effects: dict[tuple[str, ...], int] = {}
    rows = []
    for run in values:
        own = [("method", run.data, run.method), ("seed", run.data, run.seed)]
        rows.append([effects.setdefault(effect, len(effects)) for effect in own])
    design = np.zeros((len(values), len(effects)))
    for line, columns in zip(design, rows, strict=True):
        line[columns] = 1
    found = np.fromiter(values.values(), float)
    freedom = len(values) - (int(np.linalg.matrix_rank(design)) if values else 0)
    if freedom < 1:
        return None
    residual = found - design @ np.linalg.lstsq(design, found, rcond=None)[0]
    return Noise(math.sqrt(float(residual @ residual) / freedom), freedom)


@dataclass(frozen=True)
class Interval:
    """Hold a mean over seeds and where it may lie."""

    seeds: int
    mean: float
    error: float  # standard error of the mean
    freedom: int

    def bounds(self, level: float = LEVEL) -> tuple[float, float]:
        """Return Student's t-interval."""
        half = standard_errors(level, self.freedom) * self.error
        return self.mean - half, self.mean + half


def standard_errors(level: float, freedom: int) -> float:
    """Return half the width of Student's t-interval, in standard errors."""
    return float(student_quantile(freedom, (1 + level) / 2))


def interval(differences: Sequence[float], runs: float, noise: Noise | None) -> Interval | None:
    """Estimate the mean over seeds; None without a seed or without a measure of the noise.

    Args:
        differences: one per seed.
        runs: the variance of one difference, in variances of a run: 2 for A − B.
        noise: of one run.
    """
    if not differences or noise is None:
        return None
    error = noise.deviation * math.sqrt(runs / len(differences))
    return Interval(len(differences), statistics.fmean(differences), error, noise.freedom)


def own_interval(differences: Sequence[float]) -> Interval | None:
    """Estimate the mean by the spread of these differences alone; None below two of them.

    For what varies by more than the noise of training, as starts do that each seed draws.
    """
    count = len(differences)
    if count < 2:
        return None
    error = statistics.stdev(differences) / math.sqrt(count)
    return Interval(count, statistics.fmean(differences), error, count - 1)


# What is stated of a difference → where it must lie.
RANGES: dict[Statement, tuple[float, float]] = {
    "above 0": (0, math.inf),
    "below 0": (-math.inf, 0),
    "above −1": (-MARGIN, math.inf),
    "within ±1": (-MARGIN, MARGIN),
}
DIRECTIONS: dict[Statement, int] = {"above 0": 1, "below 0": -1}  # of those that state a sign


def judge_sign(found: Interval, statement: Statement, level: float = LEVEL, among: int = 1) -> Sign:
    """Decide a statement: confirmed where all of the interval lies in the range, else not.

    Where none of the interval lies in the range, a statement of a sign is reversed, one of another
    range refuted. A claim of several statements (``among``) fails with any one of them: each is
    rejected at a level so much higher (Bonferroni) that the claim is rejected wrongly no more often
    than a single statement.
    """
    low, high = RANGES[statement]
    least, most = found.bounds(level)
    if low < least and most < high:
        return "confirmed"
    least, most = found.bounds(1 - (1 - level) / among)
    if most < low or high < least:
        return "reversed" if statement in DIRECTIONS else "refuted"
    return "undecided"


def judge_size(found: Interval, effect: float, level: float = LEVEL) -> Size:
    """Hold an effect's size against the paper's.

    Args:
        found: of our runs.
        effect: the paper's difference, in points, not 0; its sign is the direction that counts.
        level: of the interval.

    Returns:
        Smaller, where the interval lies below half of the paper's effect; compatible, where it lies
        above.
    """
    direction = math.copysign(1, effect)
    least, most = sorted(direction * bound for bound in found.bounds(level))
    threshold = SMALLER * abs(effect)
    if most < threshold:
        return "smaller than the paper's"
    return "compatible with the paper's" if least > threshold else "undecided"


def together(signs: Sequence[Sign]) -> Sign:
    """Decide a claim that says several things at once: it holds where all of them do.

    It is reversed where all are, and refuted where some are reversed or refuted.
    """
    if set(signs) == {"reversed"}:
        return "reversed"
    if {"reversed", "refuted"} & set(signs):
        return "refuted"
    for sign in ("not enough runs yet", "undecided"):
        if sign in signs:
            return sign
    return "confirmed"


def counted(verdicts: Sequence[str]) -> str:
    """Say how often each verdict was given: ``2 confirmed, 1 undecided``; once if all agree."""
    found = Counter(verdicts)
    if len(found) < 2:
        return "".join(found)
    return ", ".join(f"{count} {verdict}" for verdict, count in found.items())
