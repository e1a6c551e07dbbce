"""Which thresholds to use: by budget, by time, or a fixed exit.

An image leaves at the first exit whose confidence reaches its threshold, and at the last in any
case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdkd_dist.inference.exported import Exported
    from hdkd_dist.inference.latency import StageTimes

NOBODY = 2.0
"""A threshold that no confidence reaches: nobody leaves here."""

PRINTED = 0.005
"""Costs are often typed as they are printed, with two decimals."""


def thresholds_of_exit(k: int, exits: int) -> list[float]:
    """Give the thresholds with which every image leaves at exit ``k`` (0-based)."""
    return [NOBODY] * k + [0.0] * (exits - k)


def for_budget(exported: Exported, budget_mmac: float) -> Sequence[float]:
    """Give the thresholds of the largest budget in the table that is not above ``budget_mmac``.

    Raises:
        ValueError: if it is below the first exit's cost or above the last's.
    """
    costs = exported.mmac
    nearest = min(max(budget_mmac, costs[0]), costs[-1])
    budget = nearest if abs(nearest - budget_mmac) <= PRINTED else budget_mmac
    require_affordable([budget], costs, "MMAC")
    affordable = [row for row in exported.budgets if row["budget_mmac"] <= budget * (1 + 1e-9)]
    return affordable[-1]["thresholds"]


def for_deadline(
    exported: Exported, deadline_ms: float, times: StageTimes, batch: int
) -> Sequence[float]:
    """Give the thresholds of the most expensive policy that is expected to be in time.

    A deadline that even the most expensive one meets is no fault: times differ from day to day.

    Args:
        exported: with its table.
        deadline_ms: mean per image.
        times: of its stages, on this machine and in the runtime that will be used.
        batch: images at a time.

    Raises:
        ValueError: if no image could leave in time.
    """
    affordable = times.affordable(exported.budgets, batch, deadline_ms)
    if not affordable:
        least = min(times.expected_ms(batch, row["val_shares"]) for row in exported.budgets)
        raise ValueError(
            f"{deadline_ms:g} ms per image are not enough for the first exit, which takes "
            f"{least:.3g} ms here in batches of {batch}: allow more, or use larger batches"
        )
    return affordable[-1]["thresholds"]


def for_exit(exported: Exported, number: int) -> Sequence[float]:
    """Give the thresholds with which all images leave at exit ``number`` (1-based).

    Raises:
        ValueError: if there is no such exit.
    """
    exits = len(exported.exits)
    if not isinstance(number, int) or not 1 <= number <= exits:
        raise ValueError(f"there is no exit {number}: choose one from 1 to {exits}")
    return thresholds_of_exit(number - 1, exits)


def require_affordable(budgets: Iterable[float], costs: Sequence[float], unit: str) -> None:
    """Refuse budgets that no policy can use.

    Raises:
        ValueError: if one is below the first exit's cost or above the last's, or no number.
    """
    for budget in map(float, budgets):
        if not costs[0] <= budget <= costs[-1]:
            side, which = ("below", "first") if budget < costs[0] else ("above", "last")
            raise ValueError(
                f"a budget of {budget:g} {unit} is {side} what the {which} exit costs: choose one "
                f"from {costs[0]:.4g} to {costs[-1]:.4g}"
            )
