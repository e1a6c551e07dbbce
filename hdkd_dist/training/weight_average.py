"""The moving average of the weights, which is evaluated and exported instead of the last ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of what training moves: θ and the running statistics.

    After step t every average a of a value x moves to d·a + (1 − d)·x, with d = min(decay,
    (1 + t)/(10 + t)): early steps forget the random start sooner. The running statistics of batch
    norm are averaged like θ; they are close to those of the averaged network, not equal. Whole
    numbers, such as batch norm's count of batches, and frozen parameters are not averaged.

    Args:
        network: on its device; the average starts at its weights.
        decay: in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = _copied(trained_parameters(network))  # equal on all ranks
        self.buffers = _copied(floating_buffers(network))  # this rank's own

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after step ``step`` (from 1); no host waits for the device."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        for held, now in (
            (self.parameters, trained_parameters(network)),
            (self.buffers, floating_buffers(network)),
        ):
            if held:
                torch._foreach_lerp_(list(held.values()), [now[name] for name in held], rate)

    @torch.no_grad()
    def restore(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
        """Go on from earlier averages, by name; in place."""
        for held, earlier in ((self.parameters, parameters), (self.buffers, buffers)):
            for name, value in held.items():
                value.copy_(earlier[name])


def trained_parameters(network: nn.Module) -> dict[str, Tensor]:
    """Give the parameters that are not frozen, by name."""
    return {name: value for name, value in network.named_parameters() if value.requires_grad}


def floating_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Give the buffers that are not whole numbers, by name."""
    return {name: value for name, value in network.named_buffers() if value.is_floating_point()}


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}
