"""Say what is compared: quantities of a run, differences of runs, claims; and by which evidence."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from hdkd_dist.paper.judging.statistics import (
    DIRECTIONS,
    LEVEL,
    LOOK_LEVEL,
    MARGIN,
    Interval,
    Noise,
    RunKey,
    Statement,
    interval,
    noise_of,
    own_interval,
)
from hdkd_dist.paper.records import Record, nested
from hdkd_dist.paper.trials import GAMMA_INIT, Trial

METRIC, BESIDE = "top5", "top1"  # the paper's metric decides; the other is shown beside it

Part = Literal["claim", "proportions", "size"]
Standing = Literal["primary", "secondary", "exploratory"]


def early(exits: Sequence[float]) -> float:
    """Average over the first half of the exits; of five, over the first two."""
    return statistics.fmean(exits[: len(exits) // 2])


def late(exits: Sequence[float]) -> float:
    """Average over the second half of the exits; of five, over the last three."""
    return statistics.fmean(exits[len(exits) // 2 :])


# What is compared of a run, from its accuracy per exit, [K]; of the paper's rows just as of ours.
EXIT_QUANTITIES: dict[str, Callable[[Sequence[float]], float]] = {
    "exit 1": lambda exits: exits[0],
    "early exits": early,
    "late exits": late,
    "all exits": statistics.fmean,
    "last exit": lambda exits: exits[-1],
    "early less late exits": lambda exits: early(exits) - late(exits),
    "late less early exits": lambda exits: late(exits) - early(exits),
}


def third(part: int, accuracies: Sequence[float]) -> float:
    """Average over the first, middle or last third of the budgets."""
    count = len(accuracies)
    return statistics.fmean(accuracies[part * count // 3 : (part + 1) * count // 3])


# The same from its accuracy per budget, on the test split.
THIRDS = ("low budgets", "middle budgets", "high budgets")
BUDGET_QUANTITIES = {name: partial(third, part) for part, name in enumerate(THIRDS)}

QUANTITIES = (*EXIT_QUANTITIES, *BUDGET_QUANTITIES)

# Noise of one run before there is any: top-5 in points, 87 runs of an earlier study on CIFAR(150)
# and CIFAR(250) (msdnet-cifar-tiny, 18 epochs, a CPU); of budgets it is not known.
PRIOR_NOISE: Mapping[str, Noise] = {
    quantity: Noise(deviation, 41)
    for quantity, deviation in {
        "exit 1": 0.58,
        "early exits": 0.61,
        "late exits": 0.89,
        "all exits": 0.71,
        "last exit": 0.88,
        "early less late exits": 0.57,
        "late less early exits": 0.57,
    }.items()
}


def measure(record: Record, quantity: str, metric: str, with_extra: bool) -> float:
    """Return a quantity of a finished run, in points; ``with_extra``: see Record.held_out."""
    if quantity in EXIT_QUANTITIES:
        return EXIT_QUANTITIES[quantity](record.held_out(metric, with_extra))
    return BUDGET_QUANTITIES[quantity]([row[metric] for row in nested(record.values)["budgeted"]])


def is_measured(record: Record, quantity: str) -> bool:
    """Tell whether the run has what the quantity is made of."""
    needed = "exits.1.top1" if quantity in EXIT_QUANTITIES else "budgeted.1.top1"
    return needed in record.values


def draws_start(identity: Mapping[str, object]) -> bool:
    """Tell whether each seed of such a run starts from another γ₀, drawn at random."""
    return str(identity.get(GAMMA_INIT, "")).startswith("random")


def noise_in(
    records: Mapping[str, Record], quantity: str, metric: str, extra: Collection[tuple[str, str]]
) -> Noise | None:
    """Estimate the noise of one run from all that have been tested.

    Runs from a random γ₀ are left out: their spread is that of what is tried and not only of
    training. ``extra``: see Evidence.
    """
    tested = [
        record
        for record in records.values()
        if is_measured(record, quantity) and not draws_start(record.identity)
    ]
    return noise_of(
        {
            run_key(record): measure(record, quantity, metric, record.data_set in extra)
            for record in tested
        }
    )


def run_key(record: Record) -> RunKey:
    """Name what distinguishes a run."""
    at = record.place
    return RunKey("-".join(record.data_set), f"{at['method']} {at['variant']}", at["seed"])


@dataclass(frozen=True)
class Comparison:
    """State something of a difference of runs with the same seed.

    Attributes:
        title: for people: HDKD − DBT.
        plus: these trials' quantities are added …
        minus: … and these subtracted …
        quantity: a name among ``QUANTITIES``.
        statement: what is stated of the difference.
        over: … and the sum divided by this, the number of families whose mean is meant.
        effect: the same difference of the paper's own numbers, in points; None: it has none.
        part: "claim"; or of a control, which tells where a gain comes from and does not count for
            the verdict: what the proportions of γ contribute to it, or what its size does.
    """

    title: str
    plus: Sequence[Trial]
    minus: Sequence[Trial]
    quantity: str
    statement: Statement
    over: int = 1
    effect: float | None = None
    part: Part = "claim"

    def names(self, seed: int) -> list[str]:
        """Name the runs with this seed."""
        return [trial.with_seed(seed).name for trial in [*self.plus, *self.minus]]

    def weights(self, seed: int) -> dict[str, float]:
        """Say how much each run with this seed counts; one on both sides cancels out."""
        found = Counter(trial.with_seed(seed).name for trial in self.plus)
        found.subtract(trial.with_seed(seed).name for trial in self.minus)
        return {name: weight / self.over for name, weight in found.items() if weight}

    @property
    def runs(self) -> float:
        """Return the variance of one difference, in variances of a run."""
        return sum(weight**2 for weight in self.weights(0).values())

    @property
    def draws_start(self) -> bool:
        """Tell whether seeds differ by more than the noise of training."""
        return any(draws_start(trial.settings) for trial in [*self.plus, *self.minus])

    @property
    def sought(self) -> float | None:
        """Return what has to be told from 0, in points: the paper's effect, or the margin."""
        if self.statement not in DIRECTIONS:
            return MARGIN
        return abs(self.effect) if self.effect is not None else None

    @property
    def claims_size(self) -> bool:
        """Tell whether the paper prints an effect in the direction that is stated."""
        return DIRECTIONS.get(self.statement, 0) * (self.effect or 0) > 0


@dataclass(frozen=True)
class Claim:
    """State one line of the paper, or one of ours.

    Attributes:
        text: for people.
        comparisons: those that decide it, and controls.
        standing: primary statements were chosen before the study and are looked at as it grows;
            exploratory ones were suggested by data and count in no verdict.
    """

    text: str
    comparisons: Sequence[Comparison]
    standing: Standing = "secondary"

    @property
    def level(self) -> float:
        """Return the confidence of its intervals."""
        return LOOK_LEVEL if self.standing == "primary" else LEVEL


@dataclass(frozen=True)
class Evidence:
    """Hold what claims are judged by.

    Attributes:
        records: finished runs, by name.
        planned: the names of all runs that there are to be.
        seeds: of the tables.
        noise: of one run, by metric and quantity.
        extra: data sets and sizes whose runs were measured on the split ``extra`` too; there
            accuracies are those on all held-out images, elsewhere on the test split.
    """

    records: Mapping[str, Record]
    planned: Collection[str]
    seeds: Sequence[int]
    noise: Mapping[str, Mapping[str, Noise | None]]
    extra: frozenset[tuple[str, str]]

    @classmethod
    def of(
        cls, records: Mapping[str, Record], planned: Collection[str], seeds: Sequence[int]
    ) -> Evidence:
        """Take these records, and estimate the noise from them.

        Raises:
            ValueError: if only some of the runs that are compared were measured on ``extra``.
        """
        tested = [record for record in records.values() if record.has_test]
        extra = frozenset(record.data_set for record in tested if record.has_extra)
        for record in tested:
            if record.data_set in extra and not record.has_extra:
                raise ValueError(
                    f"{record.name} was not measured on the split extra, others on the same data "
                    "were: prepare the data with --extra true and evaluate it again, or delete its "
                    "row and its folder to have it trained again"
                )
        noise = {
            metric: {each: noise_in(records, each, metric, extra) for each in QUANTITIES}
            for metric in (METRIC, BESIDE)
        }
        return cls(records, planned, seeds, noise, extra)

    def wanted(self, comparison: Comparison) -> list[int]:
        """Return the seeds for which all runs of a comparison are planned."""
        planned = set(self.planned)
        return [seed for seed in self.seeds if planned.issuperset(comparison.names(seed))]

    def finished(self, comparison: Comparison) -> list[int]:
        """Return those of the wanted seeds for which all runs have been measured."""
        return [
            seed
            for seed in self.wanted(comparison)
            if all(
                name in self.records and is_measured(self.records[name], comparison.quantity)
                for name in comparison.names(seed)
            )
        ]

    def differences(self, comparison: Comparison, metric: str = METRIC) -> list[float]:
        """Return the comparison's difference for each finished seed, in points."""

        def value(name: str) -> float:
            record = self.records[name]
            return measure(record, comparison.quantity, metric, record.data_set in self.extra)

        return [
            sum(weight * value(name) for name, weight in comparison.weights(seed).items())
            for seed in self.finished(comparison)
        ]

    def own_interval(self, comparison: Comparison) -> Interval | None:
        """Estimate the mean difference by the spread of the differences alone."""
        return own_interval(self.differences(comparison))

    def interval(self, comparison: Comparison, metric: str = METRIC) -> Interval | None:
        """Estimate the mean difference over the finished seeds."""
        differences = self.differences(comparison, metric)
        if comparison.draws_start:
            return own_interval(differences)
        return interval(differences, comparison.runs, self.noise[metric][comparison.quantity])
