"""The distillation temperature T: constant, or DBT's annealing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GROWTH = 1.05  # per step
CONFIDENT = 0.5


def confidence(logits: Tensor, temperature: Tensor) -> Tensor:
    """Mean maximal probability of the last exit at temperature T; logits [K, B, C]."""
    probabilities = F.softmax(logits[-1].detach().float() / temperature, dim=-1)
    return probabilities.amax(dim=-1).mean()


def anneal(temperature: Tensor, last_exit_confidence: Tensor) -> Tensor:
    """T after a step (Phuong & Lampert 2019): ×1.05 while the last exit is confident.

    Args:
        temperature: T, without dimensions.
        last_exit_confidence: :func:`confidence` averaged over the whole batch (all ranks).
    """
    return torch.where(last_exit_confidence > CONFIDENT, temperature * GROWTH, temperature)
