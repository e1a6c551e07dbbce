"""``results.json``: what a finished run is worth, exit by exit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import Tensor

from hdkd_dist.models import ExitCosts
from hdkd_dist.models.accuracy import percentages

FILE_NAME = "results.json"


def exit_rows(
    costs: ExitCosts, validation: Tensor, test: Tensor | None, extra: Tensor | None = None
) -> list[dict[str, Any]]:
    """One row per exit: cost, and accuracy in percent.

    Args:
        costs: of the network.
        validation: counts of :func:`count_correct` on the validation split.
        test: the same on the test split; None if it was not evaluated.
        extra: the same on the extra split; None where there is none.
    """
    columns: dict[str, Sequence[float]] = {
        "exit": range(1, len(costs.mmac) + 1),
        "mmac": costs.mmac,
        "params": costs.params,
    }
    columns["val_top1"], columns["val_top5"] = percentages(validation)
    if test is not None:
        columns["top1"], columns["top5"] = percentages(test)
    if extra is not None:
        columns["extra_top1"], columns["extra_top5"] = percentages(extra)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def read_results(folder: Path) -> dict[str, Any]:
    """A run's results; empty if there are none yet.

    Raises:
        ValueError: if the file is damaged.
    """
    file = folder / FILE_NAME
    if not file.exists():
        return {}
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(results, dict):
            raise ValueError("it holds no object")
    except ValueError as error:
        raise ValueError(
            f"{file} is damaged ({error}): move it away and run hdkd_dist/evaluate.py again"
        ) from None
    return results


def update_results(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a run's results, keeping what is there; the file is replaced as a whole."""
    file = folder / FILE_NAME
    results = {**read_results(folder), **values}
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)
    return results


EXIT_COLUMNS = {
    "exit": "exit",
    "mmac": "MMAC",
    "params": "parameters",
    "val_top1": "val top-1",
    "val_top5": "val top-5",
    "top1": "test top-1",
    "top5": "test top-5",
    "extra_top1": "extra top-1",
    "extra_top5": "extra top-5",
}
BUDGET_COLUMNS = {
    "budget_mmac": "budget MMAC",
    "network": "network",
    "mmac": "test MMAC",
    "val_top1": "val top-1",
    "top1": "test top-1",
    "top5": "test top-5",
}


def table(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str] = EXIT_COLUMNS) -> str:
    """The per-exit table, for the console; of ``titles`` the columns that there are."""
    shown = {name: title for name, title in titles.items() if name in rows[0]}
    lines = [list(shown.values())]
    for row in rows:
        lines.append([_cell(row[name]) for name in shown])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def budget_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of budgets, with thresholds, for the console; networks may differ in exits."""
    names = [f"t{k}" for k in range(1, max(len(row["thresholds"]) for row in rows))]
    named = []
    for row in rows:
        shown = map(_threshold, row["thresholds"][:-1])
        named.append({**row, **dict(zip_longest(names, shown, fillvalue=""))})
    return table(named, {**BUDGET_COLUMNS, **dict(zip(names, names, strict=True))})


def _threshold(value: float) -> str:
    return "-" if value > 1 else f"{value:.3f}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return value if isinstance(value, str) else f"{value:,}"
