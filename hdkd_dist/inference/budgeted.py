"""The budgeted mode: thresholds for a table of budgets, and what they achieve.

The thresholds are found on validation images that are not augmented; test is only measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdkd_dist.inference.confidence import Judged
from hdkd_dist.inference.direct import direct
from hdkd_dist.inference.geometric import geometric
from hdkd_dist.inference.policy import at_exit, exits_taken, score

Search = Callable[[Judged, Sequence[float], Tensor], Tensor]
"""Validation split, costs [K], budgets [M] → thresholds [M, K]."""

SEARCHES: dict[str, Search] = {
    "direct": lambda split, costs, budgets: direct(split.confidence, split.worth, costs, budgets),
    "geometric": lambda split, costs, budgets: geometric(split.confidence, costs, budgets),
}
DEFAULT_SEARCH = "direct"
ROWS = 41
RESAMPLES = 10_000


def budgets_between(costs: Sequence[float], rows: int = ROWS) -> Tensor:
    """Budgets [rows] from the first exit's cost to the last's, in equal steps."""
    return torch.linspace(costs[0], costs[-1], rows, dtype=torch.float64)


def budget_rows(
    validation: Judged,
    test: Judged,
    costs: Sequence[float],
    budgets: Tensor,
    *,
    search: str = DEFAULT_SEARCH,
) -> list[dict[str, Any]]:
    """One row per budget, as ``results.json`` has them.

    Args:
        validation: finds the thresholds.
        test: is measured.
        costs: [K], of leaving at each exit, in MMAC.
        budgets: [M], in MMAC.
        search: a key of ``SEARCHES``.
    """
    thresholds = SEARCHES[search](validation, costs, budgets)
    columns: dict[str, Tensor] = {"budget_mmac": budgets}
    for prefix, split in (("val_", validation), ("", test)):
        result = score(split, costs, thresholds)
        columns[f"{prefix}mmac"] = result.cost
        columns[f"{prefix}top1"], columns[f"{prefix}top5"] = result.top1, result.top5
        columns[f"{prefix}shares"] = result.shares
    columns["thresholds"] = thresholds
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def compare(
    test: Judged, rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], seed: int = 0
) -> list[dict[str, float]]:
    """How much more often ``rows`` are right than ``others``, with the noise of the test split.

    A paired bootstrap: test images are drawn anew with both policies' answers to them. As a
    difference is -1, 0 or 1, the draws are multinomial.

    Returns:
        per row the difference in percent, and the bounds that 95 % of the resamples lie within.
    """
    generator = np.random.default_rng(seed)
    ours, theirs = (_right(test, table) for table in (rows, others))
    images = ours.shape[1]
    compared = []
    for row, gain in zip(rows, ours.int() - theirs.int(), strict=True):
        counts = np.array([int((gain == sign).sum()) for sign in (-1, 0, 1)])
        drawn = generator.multinomial(images, counts / images, RESAMPLES)
        low, high = np.percentile(100 * (drawn[:, 2] - drawn[:, 0]) / images, [2.5, 97.5])
        compared.append(
            {
                "budget_mmac": row["budget_mmac"],
                "difference": float(100 * (counts[2] - counts[0]) / images),
                "low": float(low),
                "high": float(high),
            }
        )
    return compared


def _right(split: Judged, rows: Sequence[dict[str, Any]]) -> Tensor:
    thresholds = torch.tensor([row["thresholds"] for row in rows])
    return at_exit(split.top1, exits_taken(split.confidence, thresholds))
