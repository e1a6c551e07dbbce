"""The size of θ's gradient, seen where the optimiser uses it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hdkd_dist.training.meter import Meter


def note_gradients(optimizer: torch.optim.Optimizer, meter: Meter, shards: int) -> None:
    """Let ``meter`` know ‖∇L_train‖² of the global batch before every step, on the device.

    Args:
        optimizer: θ's; under ZeRO 1 and 2 the one that holds this rank's shard.
        meter: takes means over ranks.
        shards: among how many ranks the gradient is divided; 1 if each has it whole.
    """

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        meter.add_gradient(shards * squared_norm(optimizer))

    optimizer.register_step_pre_hook(note)


def squared_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Σ g² over all parameters that have a gradient, without dimensions."""
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    return torch.stack(torch._foreach_norm(gradients)).square().sum()
