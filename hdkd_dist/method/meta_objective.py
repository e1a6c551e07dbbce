"""What γ is judged by on the meta-validation stream (Eqs. 9 and 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

AverageOf = Literal["metaval", "train"]


@dataclass
class MetaObjective:
    """L_val of Eq. 10, and the averages E_k of Eq. 9 that it compares the exits with.

    Another class with the same methods can stand in its place.

    Attributes:
        alpha: α in [0, 1], between the losses themselves and their progress.
        momentum: m of Eq. 9.
        average_of: of which batch E_k averages CE_k: the meta-validation batch at θ', or the
            training batch at θ; Eq. 9 leaves it open.
        average_ce: E_k, [K]; None before the first observation.
    """

    alpha: float = 0.5
    momentum: float = 0.9
    average_of: AverageOf = "metaval"
    average_ce: Tensor | None = None

    def loss(self, ce: Tensor) -> Tensor:
        """Give L_val = Σ_k [ α·CE_k + (1−α)·softplus(CE_k/E_k − 1) ] (Eq. 10), without dimensions.

        The first term asks for low losses, the second for progress at the exits that lag behind
        their own recent past. E_k is a constant for the gradient; before the first observation it
        is CE_k itself.

        Args:
            ce: CE_1..CE_K of the whole meta-validation batch at θ', [K].
        """
        expected = (ce if self.average_ce is None else self.average_ce).detach()
        progress = F.softplus(ce / expected - 1)
        return (self.alpha * ce + (1 - self.alpha) * progress).sum()

    def exit_weights(self, ce: Tensor) -> Tensor:
        """Give ∂L_val/∂CE_k, [K]: the weights with which the exits' gradients make up ∇L_val."""
        return torch.func.grad(self.loss)(ce)

    def update(self, ce: Tensor) -> None:
        """Move E_k to m·E_k + (1−m)·CE_k (Eq. 9), after its use; it starts at the first CE_k."""
        known, m = self.average_ce, self.momentum
        self.average_ce = ce if known is None else m * known + (1 - m) * ce

    @property
    def replica(self) -> list[Tensor]:
        """What every rank must hold alike."""
        return [] if self.average_ce is None else [self.average_ce]

    def state_dict(self) -> dict[str, Any]:
        """Return what changes while training."""
        return {"average_ce": self.average_ce}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from a :meth:`state_dict`."""
        average = state["average_ce"]
        self.average_ce = None if average is None else average.to(device)
