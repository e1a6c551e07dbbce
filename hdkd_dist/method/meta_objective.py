"""What γ is judged by on the meta-validation stream (Eqs. 9 and 10)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def meta_objective(ce: Tensor, average_ce: Tensor, alpha: float) -> Tensor:
    """L_val = Σ_k [ α·CE_k + (1−α)·softplus(CE_k/E_k − 1) ] (Eq. 10).

    The first term asks for low losses, the second for progress at the exits that lag behind
    their own recent past.

    Args:
        ce: CE_1..CE_K of the whole meta-validation batch at the looked-ahead parameters, [K].
        average_ce: E_k, [K], constants for the gradient.
        alpha: α in [0, 1].

    Returns:
        L_val, a tensor without dimensions.
    """
    progress = F.softplus(ce / average_ce.detach() - 1)
    return (alpha * ce + (1 - alpha) * progress).sum()


def exit_weights(ce: Tensor, average_ce: Tensor, alpha: float) -> Tensor:
    """∂L_val/∂CE_k, [K]: the weights with which the exits' gradients make up ∇L_val."""
    return torch.func.grad(meta_objective)(ce, average_ce, alpha)


def update_average(average_ce: Tensor | None, ce: Tensor, momentum: float = 0.9) -> Tensor:
    """E_k ← m·E_k + (1−m)·CE_k (Eq. 9), [K]; E_k starts at the first CE_k observed."""
    return ce if average_ce is None else momentum * average_ce + (1 - momentum) * ce
