"""The cells of a study's table: mean and spread over seeds, beside the paper's number."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hdkd_dist.paper.paper_values import Printed
from hdkd_dist.paper.records import Record
from hdkd_dist.paper.studies import Row

METRICS = ("top1", "top5")


@dataclass(frozen=True)
class Cell:
    """One exit of one row."""

    block: str
    row: str
    metric: str
    exit: int
    seeds: int
    mean: float
    spread: float | None  # sample standard deviation; None for one seed
    paper: float | None  # None: not known

    @property
    def difference(self) -> float | None:
        """From the paper's number."""
        return None if self.paper is None else self.mean - self.paper


def cells(
    study: str,
    rows: Sequence[Row],
    records: Mapping[str, Record],
    printed: Mapping[tuple[str, str, str], Printed],
) -> list[Cell]:
    """All that can be filled, rows in their order; a row without a finished run has none."""
    found = []
    for row in rows:
        runs = [records[trial.name] for trial in row.trials if trial.name in records]
        runs = [run for run in runs if run.has_test]
        paper = printed.get((study, row.block, row.title))
        for metric in METRICS if runs else ():
            for exit_, values in enumerate(zip(*(run.exits(metric) for run in runs), strict=True)):
                known = paper.exits if paper and paper.metric == metric else ()
                comparable = len(known) == len(runs[0].exits(metric))  # the same exits
                found.append(
                    Cell(
                        row.block,
                        row.title,
                        metric,
                        exit_ + 1,
                        len(runs),
                        statistics.fmean(values),
                        statistics.stdev(values) if len(values) > 1 else None,
                        known[exit_] if comparable else None,
                    )
                )
    return found
