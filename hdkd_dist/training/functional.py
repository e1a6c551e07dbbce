"""The network as a function of its parameters, beside the engine that trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from hdkd_dist.method.hypergradient import Forward, Parameters

Prepare = Callable[[Tensor], Tensor]  # stored images → what the network sees


def forward_of(network: nn.Module, prepare: Prepare, **arguments: Any) -> Forward:
    """The network in training mode as a function of its parameters: (θ, images) → [K, B, C].

    Batch norm uses each batch's own statistics and updates *clones* of the running ones, so that
    looking ahead leaves no trace in the network.

    Args:
        network: stays as it is.
        prepare: stored images → what the network sees.
        arguments: further arguments of the network's forward.
    """

    def forward(parameters: Parameters, images: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        return functional_call(network, (dict(parameters), buffers), (prepare(images),), arguments)

    return forward


def evaluation_of(
    network: nn.Module, buffers: Mapping[str, Tensor], prepare: Prepare
) -> Callable[[Tensor], Tensor]:
    """The network in evaluation mode with the given buffers: images → [K, B, C]."""
    network.eval()
    state = {**dict(network.named_parameters()), **buffers}
    return lambda images: functional_call(network, state, (prepare(images),))
