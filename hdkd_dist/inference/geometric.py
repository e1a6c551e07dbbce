"""The field's search: the shares of images that leave at the exits form a geometric sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hdkd_dist.inference.policy import NOBODY, require_affordable

BISECTIONS = 60


def geometric(confidence: Tensor, costs: Sequence[float], budgets: Tensor) -> Tensor:
    """Thresholds for budgets; the shares that leave at the exits are proportional to 1, q, q², …

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
    """The shares [M, K] ∝ q^k whose mean cost is the budget, by bisection on log q."""
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
    """Thresholds [M, K] with which ``shares`` [M, K] of the images leave at each exit."""
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
