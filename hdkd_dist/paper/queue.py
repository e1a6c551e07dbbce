"""Say which runs a study still needs, in the order in which they are done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.scales import Scale, Setting, Size
from hdkd_dist.paper.studies import STUDIES, Choose, Row
from hdkd_dist.paper.trials import Trial
from hdkd_dist.paper.tuning import STAGES, Untuned, Validation, chosen, stage_trials


def studies_named(table: str, scale: Scale) -> tuple[str, ...]:
    """Return the studies that ``--table`` asks for: one, several separated by commas, or all.

    Raises:
        ValueError: for one that the scale has not.
    """
    names = scale.studies if table == "all" else tuple(table.split(","))
    if unknown := [name for name in names if name not in scale.studies]:
        raise ValueError(
            f"--table must be among {', '.join(scale.studies)} at scale {scale.name}, or all, not "
            f"{unknown[0]!r}"
        )
    return names


def study_rows(name: str, scale: Scale, choose: Choose) -> list[Row]:
    """Return the rows of a study; a stage of the choices has none."""
    return [] if name in STAGES else list(STUDIES[name].rows(scale, choose))


def validation_of(ledger: Ledger) -> Validation:
    """Return what choices are made by: top-5 on validation per exit, of the finished runs."""

    def top5(name: str) -> list[float] | None:
        record = ledger.records.get(name)
        return record.exits("val_top5") if record else None

    return top5


def choice(ledger: Ledger) -> Choose:
    """Return the settings of a method, as far as they are chosen.

    What it returns raises ``Untuned`` where they are not chosen yet.
    """

    def choose(method: str) -> Setting:
        return chosen(ledger.scale, method, validation_of(ledger))

    return choose


def study_trials(name: str, ledger: Ledger) -> list[Trial]:
    """Return the runs of a study: all rows with one seed, then with the next.

    Raises:
        Untuned: if their settings are not chosen yet.
    """
    if name in STAGES:
        return stage_trials(name, ledger.scale, validation_of(ledger))
    return in_order_of_seeds(name, study_rows(name, ledger.scale, choice(ledger)))


def in_order_of_seeds(name: str, rows: Sequence[Row]) -> list[Trial]:
    """Return the runs of a study's rows; in the tables of methods, one size after the other."""
    blocks = dict.fromkeys(row.block if name in ("1", "2") else "" for row in rows)
    trials = []
    for block in blocks:
        own = [row for row in rows if block in ("", row.block)]
        for seed in dict.fromkeys(seed for row in own for seed in row.seeds):
            trials += [row.trial.with_seed(seed) for row in own if seed in row.seeds]
    return unique(with_sources(trials))


def known_trials(names: Sequence[str], ledger: Ledger) -> list[Trial]:
    """Return the runs of several studies that can be named by now; finished ones are taken in.

    So are those of the stages, which may have chosen their settings.
    """
    trials: list[Trial] = []
    stages = [name for name in ledger.scale.studies if name in STAGES]
    for name in dict.fromkeys([*stages, *names]):
        before = -1
        while before != len(ledger.records):  # what is finished lets others be named
            before = len(ledger.records)
            with contextlib.suppress(Untuned):
                found = study_trials(name, ledger)
                ledger.look(found)
        if name in names:
            with contextlib.suppress(Untuned):
                trials += study_trials(name, ledger)
    return unique(trials)


def table_runs(
    table: str, scale: Scale, methods: Sequence[str], sizes: Sequence[str], seeds: Sequence[str]
) -> list[tuple[str, Size, int]]:
    """Return method, size and seed of the runs of Table 1 or 2; empty lists: the table's own.

    Raises:
        ValueError: for another table, or unknown methods.
    """
    benches = {"1": "imagenet", "2": "cifar100"}
    if table not in benches or benches[table] not in scale.benches:
        raise ValueError(f"--table must be 1 or 2 and exist at scale {scale.name}, not {table!r}")
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}")
    if unknown := [seed for seed in seeds if not seed.isdigit()]:
        raise ValueError(f"--seeds must be whole numbers, not {unknown[0]!r}")
    bench = scale.benches[benches[table]]
    chosen = tuple(int(size) if size.isdigit() else size for size in sizes) or bench.sizes
    return [
        (method, size, seed)
        for size in chosen
        for seed in map(int, seeds or scale.seeds)
        for method in methods or METHODS
    ]


def with_sources(trials: Iterable[Trial]) -> list[Trial]:
    """Put each after the run that it builds on."""
    return [each for trial in trials for each in (trial.source, trial) if each is not None]


def unique(trials: Iterable[Trial]) -> list[Trial]:
    """Keep each run once."""
    return list({trial.name: trial for trial in trials}.values())


def part_of(trials: Sequence[Trial], part: tuple[int, int]) -> set[str]:
    """Return the names in the i-th of n parts (from 0); a run stays with what it builds on.

    Of all planned runs, so that parts do not shift as runs finish; a choice that is made may add
    or drop controls.
    """
    index, parts = part
    roots = list(dict.fromkeys((trial.source or trial).name for trial in trials))
    own = set(roots[index::parts])
    return {trial.name for trial in trials if (trial.source or trial).name in own}
