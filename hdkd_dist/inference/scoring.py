"""What exit policies cost and achieve on a split whose outputs are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hdkd_dist.inference.confidence import Judged
from hdkd_dist.inference.runtime import confidence_histogram


def exits_taken(confidence: Tensor, thresholds: Tensor) -> Tensor:
    """Find the exit that each image takes.

    Args:
        confidence: [K, N].
        thresholds: [..., K]; the last one does not count, for the last exit accepts all.

    Returns:
        [..., N] int64, 0-based.
    """
    taken = torch.full(
        (*thresholds.shape[:-1], confidence.shape[1]), len(confidence) - 1, dtype=torch.int64
    )
    for k in reversed(range(len(confidence) - 1)):
        taken.masked_fill_(confidence[k] >= thresholds[..., k, None], k)
    return taken


@dataclass(frozen=True)
class Score:
    """What policies cost and achieve on a split.

    Attributes:
        cost: [M], mean per image, in the unit of the costs.
        top1: [M] in percent.
        top5: [M] in percent.
        shares: [M, K], of the images that leave at each exit.
        histogram: [M, 16], of the confidences with which images leave, at whatever exit.
    """

    cost: Tensor
    top1: Tensor
    top5: Tensor
    shares: Tensor
    histogram: Tensor


def score(split: Judged, costs: Sequence[float], thresholds: Tensor) -> Score:
    """Apply policies to a split.

    Args:
        split: the images.
        costs: [K], of leaving at each exit, those before it included.
        thresholds: [M, K].
    """
    taken = exits_taken(split.confidence, thresholds)
    exits = len(split.confidence)
    shares = torch.stack([(taken == k).double().mean(dim=1) for k in range(exits)], dim=1)
    return Score(
        cost=shares @ torch.as_tensor(costs, dtype=torch.float64),
        top1=100 * at_exit(split.top1, taken).double().mean(dim=1),
        top5=100 * at_exit(split.top5, taken).double().mean(dim=1),
        shares=shares,
        histogram=histogram(at_exit(split.confidence, taken)),
    )


def histogram(confidence: Tensor) -> Tensor:
    """Count what share of confidences [..., N] lies in each bin that an export remembers."""
    return torch.from_numpy(confidence_histogram(confidence.numpy()))


def at_exit(values: Tensor, taken: Tensor) -> Tensor:
    """Pick from ``values`` [K, N] what stands at each image's exit ``taken`` [M, N]: [M, N]."""
    return values.gather(0, taken)


def oracle(top1: Tensor, costs: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Find the ideal early exit: it knows which answers are right, and pays for the cheapest first.

    Every image starts at the first exit. One that is right only later is worth the way to the first
    exit that is; the cheapest ways are paid first.

    Args:
        top1: [K, N] bool.
        costs: [K].

    Returns:
        mean cost [K] and accuracy in percent [K]: corners of a concave line from the first exit.
    """
    first_right = torch.where(top1.any(dim=0), top1.int().argmax(dim=0), 0)
    share = torch.bincount(first_right, minlength=len(top1)).double() / top1.shape[1]
    share[0] = top1[0].double().mean()
    steps = torch.as_tensor(costs, dtype=torch.float64) - costs[0]
    return costs[0] + (share * steps).cumsum(0), 100 * share.cumsum(0)
