"""Thresholds that maximise the expected number of right answers under a budget, directly.

At a price per unit of cost, leaving at exit k is worth P(right at k) − price · cost of k. Given the
thresholds of the other exits, the best one of exit k is found exactly: order the images by their
confidence there; those up to some rank leave, and a cumulative sum gives the worth of every rank. A
few sweeps over the exits, from the last to the first, settle. Many prices at once give policies of
many costs; between two neighbours the ranks are interpolated until the budget is met. A budget that
buys nothing more is not spent.

P(right) is the calibrated confidence, not the right or wrong answer itself: the labels of a small
validation split are noise that a maximum would chase.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hdkd_dist.inference.policy import NOBODY, require_affordable

PRICES = 32
SWEEPS = 2
GRID = 200  # ranks that are tried at an exit
BISECTIONS = 12


def direct(confidence: Tensor, worth: Tensor, costs: Sequence[float], budgets: Tensor) -> Tensor:
    """Thresholds for budgets.

    Args:
        confidence: [K, N], on validation.
        worth: [K, N], the probability that each exit is right.
        costs: [K], of leaving at each exit, rising.
        budgets: [M], mean cost per image.

    Returns:
        thresholds [M, K].

    Raises:
        ValueError: for a budget that no policy can meet.
    """
    require_affordable(budgets, costs, "per image")
    cost = torch.as_tensor(costs, dtype=torch.float32) / costs[-1]
    values, order = confidence[:-1].sort(dim=1, descending=True)
    rank = order.argsort(dim=1).int()
    limits = limits_by_price(order, rank, worth, cost)
    limits = meet_budgets(limits, rank, cost, budgets.float() / costs[-1])
    last = (limits.long() - 1).clamp(min=0)
    thresholds = values.T.gather(0, last).where(limits > 0, NOBODY)
    return torch.cat([thresholds, torch.zeros(len(budgets), 1)], dim=1)


def limits_by_price(order: Tensor, rank: Tensor, worth: Tensor, cost: Tensor) -> Tensor:
    """How many images are sure enough to leave at each exit: [L, K-1], cheapest policy first.

    Args:
        order: [K-1, N], the images by falling confidence.
        rank: [K-1, N], each image's place in that order.
        worth: [K, N].
        cost: [K].
    """
    exits, images = worth.shape
    prices = torch.cat([torch.zeros(1), torch.logspace(-3, 1.5, PRICES - 1)])[:, None]
    grid = torch.linspace(0, images, min(GRID, images) + 1).round().int()
    limits = torch.zeros(PRICES, exits - 1, dtype=torch.int32)
    for _ in range(SWEEPS):
        onward = worth[-1] - prices * cost[-1]
        for k in reversed(range(exits - 1)):
            here = worth[k] - prices * cost[k]
            gain = (here - onward).masked_fill_(~arrives(rank[:k], limits[:, :k], images), 0)
            total = gain[:, order[k]].cumsum(dim=1)
            total = torch.cat([torch.zeros(PRICES, 1), total[:, grid[1:] - 1]], dim=1)
            limits[:, k] = grid[total.argmax(dim=1)]
            onward = torch.where(rank[k] < limits[:, k, None], here, onward)
    everybody = torch.full_like(limits[:1], images)
    return torch.cat([everybody, limits.flip(0)])


def arrives(rank: Tensor, limits: Tensor, images: int) -> Tensor:
    """Which images leave at none of the exits given: [L, N]."""
    left = torch.ones(len(limits), images, dtype=torch.bool)
    for each, limit in zip(rank, limits.T, strict=True):
        left &= each >= limit[:, None]
    return left


def mean_cost(rank: Tensor, limits: Tensor, cost: Tensor) -> Tensor:
    """Mean cost [L] of policies: each exit's surcharge for those who reach it."""
    images = rank.shape[1]
    left = torch.ones(len(limits), images, dtype=torch.bool)
    total = cost[0].repeat(len(limits))
    for each, limit, surcharge in zip(rank, limits.T, cost.diff(), strict=True):
        left &= each >= limit[:, None]
        total += surcharge * left.sum(dim=1) / images
    return total


def meet_budgets(limits: Tensor, rank: Tensor, cost: Tensor, budgets: Tensor) -> Tensor:
    """Policies [M, K-1] that spend ``budgets`` [M], between those of ``limits``, cheapest first."""
    known = mean_cost(rank, limits, cost).cummax(dim=0).values
    above = torch.searchsorted(known, budgets).clamp(1, len(limits) - 1)
    cheap, dear = limits[above - 1].double(), limits[above].double()
    low, high = torch.zeros(len(budgets), 1), torch.ones(len(budgets), 1)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        between = (cheap + middle * (dear - cheap)).round().int()
        fits = (mean_cost(rank, between, cost) <= budgets)[:, None]
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return (cheap + low * (dear - cheap)).round().int()
