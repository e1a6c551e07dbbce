"""Differences between methods, paired over seeds, with a confidence interval, and what they decide.

Seeds are the independent repetitions: the exits of one network are not, so that a quantity is first
averaged over the exits in question, per seed. Two or three seeds say little about the noise of
their own difference, so that the noise is taken from all runs together: what a quantity keeps when
the effect of each method and that of each seed are taken out (a two-way analysis of variance).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student

LEVEL = 0.95
MARGIN = 1.0  # points of accuracy: less than that does not matter

Verdict = Literal["confirmed", "refuted", "undecided", "not enough runs yet"]
Statement = Literal["above 0", "below 0", "above −1", "below 1", "within ±1"]


@dataclass(frozen=True)
class Run:
    """What distinguishes a run, for the noise."""

    data: str  # runs on the same data share their seeds' luck
    method: str  # with its variant
    seed: str


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a run around its method and seed, and its degrees of freedom."""

    deviation: float
    freedom: int


def noise_of(values: Mapping[Run, float]) -> Noise | None:
    """The residual of the additive model method + seed; None where nothing is left to judge by."""
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
    """A mean over seeds and where it may lie."""

    seeds: int
    mean: float
    error: float  # standard error of the mean
    freedom: int

    def bounds(self, level: float = LEVEL) -> tuple[float, float]:
        """Student's t-interval."""
        half = float(student.ppf((1 + level) / 2, self.freedom)) * self.error
        return self.mean - half, self.mean + half


def interval(differences: Sequence[float], runs: int, noise: Noise | None) -> Interval | None:
    """That of the mean over seeds; None without a seed or without a measure of the noise.

    Args:
        differences: one per seed.
        runs: how many runs are added and subtracted in each, for their noise adds up.
        noise: of one run.
    """
    if not differences or noise is None:
        return None
    error = noise.deviation * math.sqrt(runs / len(differences))
    return Interval(len(differences), statistics.fmean(differences), error, noise.freedom)


# What is stated of a difference → where it must lie.
RANGES: dict[Statement, tuple[float, float]] = {
    "above 0": (0, math.inf),
    "below 0": (-math.inf, 0),
    "above −1": (-MARGIN, math.inf),
    "below 1": (-math.inf, MARGIN),
    "within ±1": (-MARGIN, MARGIN),
}


def judge(found: Interval, statement: Statement, among: int = 1) -> Verdict:
    """Confirmed where all of the interval lies in the stated range, refuted where none of it does.

    A claim of several statements fails with any one of them: each is refuted at a level so much
    higher (Bonferroni) that the claim is refuted wrongly no more often than a single statement.
    """
    low, high = RANGES[statement]
    least, most = found.bounds()
    if low < least and most < high:
        return "confirmed"
    least, most = found.bounds(1 - (1 - LEVEL) / among)
    if most < low or high < least:
        return "refuted"
    return "undecided"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """That of a claim which says several things at once."""
    for verdict in ("refuted", "not enough runs yet", "undecided"):
        if verdict in verdicts:
            return verdict
    return "confirmed"
