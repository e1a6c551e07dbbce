"""Which thresholds to use: by budget, by time, or a fixed exit."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hdkd_dist.inference.exported import Exported
from hdkd_dist.inference.latency import StageTimes, in_time
from hdkd_dist.inference.policy import require_affordable
from hdkd_dist.inference.runtime import thresholds_of_exit


def for_budget(exported: Exported, budget_mmac: float) -> Sequence[float]:
    """The thresholds of the largest budget in the table that is not above ``budget_mmac``.

    Raises:
        ValueError: if it is below the first exit's cost or above the last's.
    """
    costs = [row["mmac"] for row in exported.exits]
    # The costs are often typed as they are printed, with two decimals.
    rounded = [min(max(budget_mmac, costs[0]), costs[-1])]
    near = abs(rounded[0] - budget_mmac) <= 0.005
    budgets = torch.tensor(rounded if near else [budget_mmac], dtype=torch.float64)
    require_affordable(budgets, costs, "MMAC")
    budget = float(budgets[0]) * (1 + 1e-9)
    return [row for row in exported.budgets if row["budget_mmac"] <= budget][-1]["thresholds"]


def for_deadline(
    exported: Exported, deadline_ms: float, times: StageTimes, batch: int
) -> Sequence[float]:
    """The thresholds of the most expensive policy in the table that is expected to be in time.

    A deadline that even the most expensive one meets is no fault: times differ from day to day.

    Args:
        exported: with its table.
        deadline_ms: mean per image.
        times: of its stages on this machine.
        batch: images at a time.

    Raises:
        ValueError: if no image could leave in time.
    """
    affordable = in_time(exported.budgets, times, batch, deadline_ms)
    if not affordable:
        least = min(times.expected_ms(batch, row["val_shares"]) for row in exported.budgets)
        raise ValueError(
            f"{deadline_ms:g} ms per image are not enough for the first exit, which takes "
            f"{least:.3g} ms here in batches of {batch}: allow more, or use larger batches"
        )
    return affordable[-1]["thresholds"]


def for_exit(exported: Exported, number: int) -> Sequence[float]:
    """The thresholds with which all images leave at exit ``number`` (1-based).

    Raises:
        ValueError: if there is no such exit.
    """
    exits = len(exported.exits)
    if not isinstance(number, int) or not 1 <= number <= exits:
        raise ValueError(f"there is no exit {number}: choose one from 1 to {exits}")
    return thresholds_of_exit(number - 1, exits)
