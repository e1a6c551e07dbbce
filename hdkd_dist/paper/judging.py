"""Comparisons of finished runs, and what they say of a claim."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hdkd_dist.paper.records import Record, nested
from hdkd_dist.paper.statistics import Interval, Statement, Verdict, interval, judge, together
from hdkd_dist.paper.trials import Trial

ACCURACY = "top1"


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
    "all budgets": lambda record: statistics.fmean(budgets(record)),
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
        control: whether it only tells where a gain comes from and does not count for the verdict.
    """

    title: str
    plus: Sequence[Trial]
    minus: Sequence[Trial]
    quantity: str
    statement: Statement
    control: bool = False

    def differences(self, records: Mapping[str, Record], seeds: Sequence[int]) -> list[float]:
        """Over the seeds for which all runs are there."""
        measure = QUANTITIES[self.quantity]
        values = []
        for seed in seeds:
            plus, minus = (
                [records.get(trial.with_seed(seed).name) for trial in trials]
                for trials in (self.plus, self.minus)
            )
            if None not in [*plus, *minus]:
                values.append(sum(map(measure, plus)) - sum(map(measure, minus)))
        return values


@dataclass(frozen=True)
class Claim:
    """One line of the paper."""

    text: str
    comparisons: Sequence[Comparison]


@dataclass(frozen=True)
class Judged:
    """A claim and what has been found."""

    claim: Claim
    found: Sequence[Interval | None]  # by comparison
    verdicts: Sequence[Verdict]  # by comparison

    @property
    def verdict(self) -> Verdict:
        """Of the claim: its comparisons together, controls left out."""
        return together(
            [
                verdict
                for comparison, verdict in zip(self.claim.comparisons, self.verdicts, strict=True)
                if not comparison.control
            ]
        )

    @property
    def origin(self) -> str | None:
        """Where a gain, the first comparison, comes from; None without controls."""
        controls = [
            verdict
            for comparison, verdict in zip(self.claim.comparisons, self.verdicts, strict=True)
            if comparison.control
        ]
        if not controls:
            return None
        if self.verdicts[0] != "confirmed":
            return "There is no confirmed gain whose origin could be asked for."
        return {
            "confirmed": "The gain is harmony's: neither control shares it.",
            "refuted": "The gain comes from the size of the loss: a control does better still.",
            "undecided": "Whether the gain is harmony's or the size's is undecided.",
            "not enough runs yet": "Where the gain comes from awaits controls.",
        }[together(controls)]


def judged(claim: Claim, records: Mapping[str, Record], seeds: Sequence[int]) -> Judged:
    """Hold a claim against the records."""
    found = [interval(each.differences(records, seeds)) for each in claim.comparisons]
    verdicts = [
        judge(each, comparison.statement)
        for each, comparison in zip(found, claim.comparisons, strict=True)
    ]
    return Judged(claim, found, verdicts)
