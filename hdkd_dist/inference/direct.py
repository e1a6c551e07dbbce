"""Thresholds that maximise the expected number of right answers under a budget, directly.

A policy is described by the odds with which an image that reaches an exit leaves there. Scaling all
odds by one factor meets the budget, whatever their ratios are; the ratios are searched. From
the geometric policy on, the odds of one exit after the other are raised and lowered, and what helps
is kept; the steps become finer. All budgets take part at once.

What counts as worth is halfway between the right or wrong answer itself and its calibrated
probability: labels alone are noise that a maximum chases on a small validation split, probabilities
alone are biased where the easy images have left already. What is found takes the geometric policy's
place only where its gain on the same images is beyond their noise: some thirty tries look better by
chance alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hdkd_dist.inference.geometric import BISECTIONS, geometric_shares, thresholds_for
from hdkd_dist.inference.policy import at_exit, exits_taken, require_affordable

STEPS = (0.8, 0.4, 0.4, 0.2)  # of the logarithm of the odds, one per sweep
STANDARD_ERRORS = 2  # of the paired gain over the geometric policy
SAMPLE = 3_000  # images that judge the ratios; the thresholds are set on all


def direct(confidence: Tensor, worth: Tensor, costs: Sequence[float], budgets: Tensor) -> Tensor:
    """Thresholds for budgets.

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
    """What the answers are worth [M, N] with which ``shares`` [M, K] of the images leave."""
    return at_exit(worth, exits_taken(confidence, thresholds_for(confidence, shares)))


def log_odds(shares: Tensor) -> Tensor:
    """Of leaving at each exit but the last, once there: [..., K] → [..., K-1]."""
    after = shares.flip(-1).cumsum(dim=-1).flip(-1)[..., 1:]
    tiny = 1e-12
    return (shares[..., :-1].clamp_min(tiny) / after.clamp_min(tiny)).log()


def shares_of(odds: Tensor) -> Tensor:
    """The inverse of :func:`log_odds`."""
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
