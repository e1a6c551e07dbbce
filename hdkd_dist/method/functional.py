"""The network as a function of its parameters, beside the engine that trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
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
        state = (dict(parameters), buffers)
        with torch.compiler.set_stance("force_eager"):  # only the engine's passes are compiled
            return functional_call(network, state, (prepare(images),), arguments)

    return forward


def in_bf16(forward: Forward) -> Forward:
    """``forward`` under bf16 autocast; the parameters stay in float32."""

    def half(parameters: Parameters, images: Tensor) -> Tensor:
        # The cache is for parameters that require a gradient, which a direction does not.
        with torch.autocast(images.device.type, dtype=torch.bfloat16, cache_enabled=False):
            return forward(parameters, images)

    return half


def evaluation_of(
    network: nn.Module, buffers: Mapping[str, Tensor], prepare: Prepare
) -> Callable[[Tensor], Tensor]:
    """The network in evaluation mode with the given buffers: images → [K, B, C]."""
    network.eval()
    state = {**dict(network.named_parameters()), **buffers}

    def forward(images: Tensor) -> Tensor:
        with torch.compiler.set_stance("force_eager"):
            return functional_call(network, state, (prepare(images),))

    return forward
