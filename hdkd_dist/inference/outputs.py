"""The exits' outputs on one split: computed once, everything else derives from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hdkd_dist.files.tensors import read_tensors, write_tensors


@dataclass(frozen=True)
class Outputs:
    """What every exit says about every image of a split, on the CPU.

    Attributes:
        logits: [K, N, C] float32.
        labels: [N] int64.
        indices: [N] int64, the images' positions in the split.
    """

    logits: Tensor
    labels: Tensor
    indices: Tensor


@torch.no_grad()
def collect_outputs(
    forward: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor, Tensor]]
) -> Outputs:
    """Run every image through all exits.

    Args:
        forward: images [B, …] → logits [K, B, C], in evaluation mode.
        batches: images, labels [B] and indices [B].
    """
    parts = [
        (forward(images).float().cpu(), labels.cpu(), indices.cpu())
        for images, labels, indices in batches
    ]
    logits, labels, indices = zip(*parts, strict=True)
    return Outputs(torch.cat(logits, dim=1), torch.cat(labels), torch.cat(indices))


def save_outputs(outputs: Outputs, file: Path) -> None:
    """Write ``logits``, ``labels`` and ``indices`` as a safetensors file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(vars(outputs), file)


def load_outputs(file: Path) -> Outputs:
    """Read what :func:`save_outputs` has written."""
    return Outputs(**read_tensors(file))
