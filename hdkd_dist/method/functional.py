"""The network as a function of its parameters, beside the engine that trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hdkd_dist.method.hypergradient import Forward, Parameters

Prepare = Callable[[Tensor], Tensor]  # stored images → what the network sees


def unchanged(images: Tensor) -> Tensor:
    """Return the images as they are."""
    return images


def forward_of(
    network: nn.Module,
    prepare: Prepare = unchanged,
    autocast: torch.dtype | None = None,
    **arguments: Any,
) -> Forward:
    """Make the network in training mode a function of its parameters: (θ, images) → [K, B, C].

    Batch norm uses each batch's own statistics and updates *clones* of the running ones, so that
    looking ahead leaves no trace in the network.

    Args:
        network: stays as it is.
        prepare: stored images → what the network sees.
        autocast: run under autocast to this type; the parameters stay in float32.
        arguments: further arguments of the network's forward.
    """

    def forward(parameters: Parameters, images: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        state = (dict(parameters), buffers)
        # Only the engine's passes are compiled.
        with torch.compiler.set_stance("force_eager"), casting(autocast, images.device):
            return functional_call(network, state, (prepare(images),), arguments)

    return forward


def casting(autocast: torch.dtype | None, device: torch.device) -> AbstractContextManager:
    """Open autocast to a type; without its cache, which only serves what requires a gradient."""
    if autocast is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=autocast, cache_enabled=False)


def evaluation_of(
    network: nn.Module, buffers: Mapping[str, Tensor], prepare: Prepare = unchanged
) -> Callable[[Tensor], Tensor]:
    """Return the network in evaluation mode with the given buffers: images → [K, B, C]."""
    network.eval()
    state = {**dict(network.named_parameters()), **buffers}

    def forward(images: Tensor) -> Tensor:
        with torch.compiler.set_stance("force_eager"):
            return functional_call(network, state, (prepare(images),))

    return forward
