"""Comparisons of finished runs, and what they say of a claim."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from hdkd_dist.paper.origin import Part, origin_of
from hdkd_dist.paper.records import Record, nested
from hdkd_dist.paper.statistics import (
    Interval,
    Noise,
    Run,
    Statement,
    Verdict,
    interval,
    judge,
    noise_of,
    together,
)
from hdkd_dist.paper.trials import GAMMA_INIT, Trial

ACCURACY = "top1"
THIRDS = ("low budgets", "middle budgets", "high budgets")


def early(record: Record) -> float:
    """Mean over the first half of the exits."""
    exits = record.exits(ACCURACY)
    return statistics.fmean(exits[: len(exits) // 2])


def late(record: Record) -> float:
    """Mean over the second half of the exits."""
    exits = record.exits(ACCURACY)
    return statistics.fmean(exits[len(exits) // 2 :])


def budgets(record: Record, key: str = ACCURACY) -> list[float]:
    """Accuracy at each budget."""
    return [row[key] for row in nested(record.values)["budgeted"]]


def third(part: int, record: Record) -> float:
    """Mean over the first, middle or last third of the budgets."""
    found = budgets(record)
    count = len(found)
    return statistics.fmean(found[part * count // 3 : (part + 1) * count // 3])


def optimism(record: Record) -> float:
    """How much better the thresholds look on the split on which they were found."""
    found, measured = budgets(record, "val_top1"), budgets(record)
    return statistics.fmean(a - b for a, b in zip(found, measured, strict=True))


# What is compared, of one run, in points of top-1 on the test split.
QUANTITIES: dict[str, Callable[[Record], float]] = {
    "all exits": lambda record: statistics.fmean(record.exits(ACCURACY)),
    "early exits": early,
    "late exits": late,
    "late less early exits": lambda record: late(record) - early(record),
    "last exit": lambda record: record.exits(ACCURACY)[-1],
    **{name: partial(third, part) for part, name in enumerate(THIRDS)},
    "validation less test, all budgets": optimism,
}


@dataclass(frozen=True)
class Comparison:
    """A difference of runs with the same seed, and what is stated of it.

    Attributes:
        title: for people: HDKD − DBT.
        plus: these trials' quantities are added …
        minus: … and these subtracted.
        quantity: a key of ``QUANTITIES``.
        statement: what the claim says of the difference.
        part: "claim", or of a control, which tells where a gain comes from and does not count for
            the verdict: "harmony" is what is gained over it, "size" what it gains itself.
    """

    title: str
    plus: Sequence[Trial]
    minus: Sequence[Trial]
    quantity: str
    statement: Statement
    part: Literal["claim", Part] = "claim"

    def names(self, seed: int) -> list[str]:
        """Of the runs with this seed."""
        return [trial.with_seed(seed).name for trial in [*self.plus, *self.minus]]

    def weights(self, seed: int) -> dict[str, int]:
        """How often each run with this seed is added; one on both sides cancels out."""
        found = Counter(trial.with_seed(seed).name for trial in self.plus)
        found.subtract(trial.with_seed(seed).name for trial in self.minus)
        return {name: weight for name, weight in found.items() if weight}

    def differences(self, records: Mapping[str, Record], seeds: Sequence[int]) -> list[float]:
        """Over the seeds for which all runs are there."""
        measure = QUANTITIES[self.quantity]
        return [
            sum(weight * measure(records[name]) for name, weight in self.weights(seed).items())
            for seed in seeds
            if all(name in records for name in self.names(seed))
        ]

    @property
    def runs(self) -> int:
        """How many runs' noise is in a difference."""
        return sum(weight**2 for weight in self.weights(0).values())


@dataclass(frozen=True)
class Claim:
    """One line of the paper."""

    text: str
    comparisons: Sequence[Comparison]


@dataclass(frozen=True)
class Finding:
    """A comparison, where its difference may lie, and what that says."""

    comparison: Comparison
    wanted: int  # seeds
    interval: Interval | None
    verdict: Verdict


@dataclass(frozen=True)
class Judged:
    """A claim and what has been found."""

    claim: Claim
    findings: Sequence[Finding]

    def of(self, part: str) -> list[Finding]:
        """Those of a part."""
        return [finding for finding in self.findings if finding.comparison.part == part]

    @property
    def verdict(self) -> Verdict:
        """Of the claim: its comparisons together, controls left out."""
        return together([finding.verdict for finding in self.of("claim")])

    @property
    def origin(self) -> str | None:
        """Where a gain, the first comparison, comes from; None without controls."""
        if not self.of("harmony"):
            return None
        gain = self.findings[0]
        harmony = [finding.verdict for finding in self.of("harmony")]
        size = [(found.interval, found.verdict) for found in self.of("size")]
        return origin_of(gain.interval, gain.verdict, harmony, size)


def noise_in(records: Mapping[str, Record], quantity: str) -> Noise | None:
    """Of one run, from all that have been tested.

    Left out are runs from a random γ₀: each seed draws another one, so that their spread is that of
    what is tried and not only of training.
    """
    needed = "exits.1.top1" if "exit" in quantity else "budgeted.1.top1"
    return noise_of(
        {
            Run(at["size"], f"{at['method']} {at['variant']}", at["seed"]): value
            for at, value in (
                (record.place, QUANTITIES[quantity](record))
                for record in records.values()
                if needed in record.values and record.identity.get(GAMMA_INIT) != "random"
            )
        }
    )


@dataclass(frozen=True)
class Evidence:
    """What claims are held against.

    Attributes:
        records: finished runs, by name.
        planned: the names of all runs that there are to be.
        seeds: of the tables.
        noise: of a run, by quantity.
    """

    records: Mapping[str, Record]
    planned: Collection[str]
    seeds: Sequence[int]
    noise: Mapping[str, Noise | None]

    @classmethod
    def of(
        cls, records: Mapping[str, Record], planned: Collection[str], seeds: Sequence[int]
    ) -> Evidence:
        """With the noise of these records."""
        noise = {quantity: noise_in(records, quantity) for quantity in QUANTITIES}
        return cls(records, planned, seeds, noise)


def judged(claim: Claim, evidence: Evidence) -> Judged:
    """Hold a claim against the records."""
    stated = sum(comparison.part == "claim" for comparison in claim.comparisons)
    findings = []
    for comparison in claim.comparisons:
        seeds = [
            seed
            for seed in evidence.seeds
            if all(name in evidence.planned for name in comparison.names(seed))
        ]
        differences = comparison.differences(evidence.records, seeds)
        found = interval(differences, comparison.runs, evidence.noise[comparison.quantity])
        verdict: Verdict = "not enough runs yet"
        if found is not None and len(differences) == len(seeds):
            among = stated if comparison.part == "claim" else 1
            verdict = judge(found, comparison.statement, among)
        findings.append(Finding(comparison, len(seeds), found, verdict))
    return Judged(claim, findings)
