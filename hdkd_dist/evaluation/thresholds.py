"""The budgeted mode: thresholds for a table of budgets, and their cost and accuracy.

The thresholds are found on validation images that are not augmented; test is only measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from hdkd_dist.inference.confidence import Judged
from hdkd_dist.inference.policy import NOBODY, require_affordable
from hdkd_dist.inference.scoring import at_exit, exits_taken, score
from hdkd_dist.runs.results import BudgetRow, Gain

BISECTIONS = 60


def geometric(confidence: Tensor, costs: Sequence[float], budgets: Tensor) -> Tensor:
    """Find thresholds for budgets; the shares that leave at the exits are as 1, q, q², …

    q is solved for the budget; the thresholds follow exit by exit (Huang et al. 2017, section 5).

    Args:
        confidence: [K, N], on validation.
        costs: [K], of leaving at each exit, rising.
        budgets: [M], mean cost per image, in the same unit.

    Returns:
        thresholds [M, K].

    Raises:
        ValueError: for a budget that no policy can meet.
    """
    require_affordable(budgets, costs, "per image")
    return thresholds_for(confidence, geometric_shares(costs, budgets))


def geometric_shares(costs: Sequence[float], budgets: Tensor) -> Tensor:
    """Find the shares [M, K] ∝ q^k whose mean cost is the budget, by bisection on log q."""
    cost = torch.as_tensor(costs, dtype=torch.float64)
    places = torch.arange(len(cost), dtype=torch.float64)
    low = torch.full((len(budgets), 1), -60.0, dtype=torch.float64)
    high = -low
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        dear = ((middle * places).softmax(dim=1) @ cost)[:, None] > budgets[:, None]
        low, high = torch.where(dear, low, middle), torch.where(dear, middle, high)
    return (low * places).softmax(dim=1)


def thresholds_for(confidence: Tensor, shares: Tensor) -> Tensor:
    """Find thresholds [M, K] with which ``shares`` [M, K] of the images leave at each exit."""
    exits, images = confidence.shape
    wanted = (
        (shares.cumsum(dim=1) * images).round().diff(dim=1, prepend=torch.zeros(len(shares), 1))
    )
    thresholds = torch.zeros(shares.shape)
    here = torch.ones(len(shares), images, dtype=torch.bool)
    for k in range(exits - 1):
        values, order = confidence[k].sort(descending=True)
        reached = here[:, order].cumsum(dim=1, dtype=torch.int32)
        last = torch.searchsorted(reached, wanted[:, k : k + 1].int())[:, 0]
        leaving = values[last.clamp(max=images - 1)]
        thresholds[:, k] = torch.where(wanted[:, k] > 0, leaving, NOBODY)
        here &= confidence[k] < thresholds[:, k, None]
    return thresholds


STEPS = (0.8, 0.4, 0.4, 0.2)  # of the logarithm of the odds, one per sweep
STANDARD_ERRORS = 2  # of the paired gain over the geometric policy
SAMPLE = 3_000  # images that judge the ratios; the thresholds are set on all


def direct(confidence: Tensor, worth: Tensor, costs: Sequence[float], budgets: Tensor) -> Tensor:
    """Search the thresholds for budgets by coordinate moves of the shares, from the geometric ones.

    Args:
        confidence: [K, N], on validation.
        worth: [K, N], of each exit's answer, in 0..1.
        costs: [K], of leaving at each exit, rising.
        budgets: [M], mean cost per image.

    Returns:
        thresholds [M, K].

    Raises:
        ValueError: for a budget that no policy can meet.
    """
    require_affordable(budgets, costs, "per image")
    every = max(1, confidence.shape[1] // SAMPLE)
    some, gains = confidence[:, ::every].contiguous(), worth[:, ::every].contiguous()
    spend = torch.as_tensor(costs, dtype=torch.float64), budgets

    start = geometric_shares(costs, budgets)
    value = worth_of(some, gains, start).mean(dim=1)
    odds = log_odds(start)
    for step in STEPS:
        for k in range(odds.shape[1]):
            change = torch.zeros_like(odds)
            change[:, k] = step
            moves = torch.stack([odds, meet(odds + change, *spend), meet(odds - change, *spend)])
            moved = worth_of(some, gains, shares_of(moves[1:]).flatten(0, 1)).mean(dim=1)
            value, chosen = torch.stack([value, *moved.view(2, -1)]).max(dim=0)
            odds = moves[chosen, torch.arange(len(odds))]

    found = shares_of(odds)
    gain = worth_of(some, gains, found) - worth_of(some, gains, start)
    sure = gain.mean(dim=1) > STANDARD_ERRORS * gain.std(dim=1) / gain.shape[1] ** 0.5
    return thresholds_for(confidence, torch.where(sure[:, None], found, start))


def worth_of(confidence: Tensor, worth: Tensor, shares: Tensor) -> Tensor:
    """Return the worth [M, N] of the answers with which ``shares`` [M, K] of the images leave."""
    return at_exit(worth, exits_taken(confidence, thresholds_for(confidence, shares)))


def log_odds(shares: Tensor) -> Tensor:
    """Return the log odds to leave at each exit but the last, once there: [..., K] → [..., K-1]."""
    after = shares.flip(-1).cumsum(dim=-1).flip(-1)[..., 1:]
    tiny = 1e-12
    return (shares[..., :-1].clamp_min(tiny) / after.clamp_min(tiny)).log()


def shares_of(odds: Tensor) -> Tensor:
    """Undo :func:`log_odds`."""
    leave = odds.sigmoid()
    ones = torch.ones_like(leave[..., :1])
    reach = torch.cat([ones, (1 - leave).cumprod(dim=-1)], dim=-1)
    return reach * torch.cat([leave, ones], dim=-1)


def meet(odds: Tensor, cost: Tensor, budgets: Tensor) -> Tensor:
    """Scale all odds of a policy by one factor so that it costs its budget, by bisection."""
    low = torch.full((len(odds), 1), -60.0, dtype=torch.float64)
    high = -low
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        dear = (shares_of(odds + middle) @ cost)[:, None] > budgets[:, None]
        low, high = torch.where(dear, middle, low), torch.where(dear, high, middle)
    return odds + high


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
    """Return budgets [rows] from the first exit's cost to the last's, in equal steps."""
    return torch.linspace(costs[0], costs[-1], rows, dtype=torch.float64)


def budget_rows(
    validation: Judged,
    test: Judged,
    costs: Sequence[float],
    budgets: Tensor,
    *,
    search: str = DEFAULT_SEARCH,
) -> list[BudgetRow]:
    """Make one row per budget, as ``results.json`` has them.

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
        columns[f"{prefix}histogram"] = result.histogram
    columns["thresholds"] = thresholds
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [cast(BudgetRow, dict(zip(columns, row, strict=True))) for row in rows]


def paired_gains(
    test: Judged, rows: Sequence[BudgetRow], others: Sequence[BudgetRow], seed: int = 0
) -> list[Gain]:
    """Compare how often ``rows`` and ``others`` are right, with the noise of the test split.

    A paired bootstrap: test images are drawn again with both policies' answers to them. As a
    difference is -1, 0 or 1, the draws are multinomial.

    Returns:
        per row the difference in percent, and the bounds that 95 % of the resamples lie within.
    """
    generator = np.random.default_rng(seed)
    ours, theirs = (_right(test, table) for table in (rows, others))
    images = ours.shape[1]
    compared: list[Gain] = []
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


def _right(split: Judged, rows: Sequence[BudgetRow]) -> Tensor:
    thresholds = torch.tensor([row["thresholds"] for row in rows])
    return at_exit(split.top1, exits_taken(split.confidence, thresholds))
