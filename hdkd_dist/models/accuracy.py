"""Anytime evaluation: how good the answer of every exit is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

TOP = 5


@torch.no_grad()
def count_correct(
    forward: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]], num_exits: int
) -> Tensor:
    """Right answers of every exit.

    Args:
        forward: images [B, …] → logits [K, B, C], in evaluation mode.
        batches: images and labels [B].
        num_exits: K.

    Returns:
        [3, K] on the CPU, int64: right at first guess, right among the first five (or all, of fewer
        classes), and the number of images (equal in all columns). Counts of several processes add
        up.
    """
    totals = torch.zeros(3, num_exits, dtype=torch.int64)
    for images, labels in batches:
        totals = totals.to(labels.device)  # one transfer to the host, at the end
        logits = forward(images)
        guesses = logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices  # [K, B, 5]
        right = guesses == labels[:, None]
        counts = [right[..., 0].sum(dim=1), right.any(dim=-1).sum(dim=1)]
        totals += torch.stack([*counts, torch.full_like(counts[0], len(labels))])
    return totals.cpu()


def percentages(counts: Tensor) -> tuple[list[float], list[float]]:
    """Top-1 and top-5 accuracy per exit in percent from :func:`count_correct`."""
    top1, top5, samples = counts.double()
    return (100 * top1 / samples).tolist(), (100 * top5 / samples).tolist()
