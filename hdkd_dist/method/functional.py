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
    looking ahead leaves no trace in the network. θ may leave parameters out (frozen ones), for
    which the network's own stand in, and may name buffers, which then stand in for the network's.

    Args:
        network: stays as it is.
        prepare: stored images → what the network sees.
        autocast: run under autocast to this type; the parameters stay in float32.
        arguments: further arguments of the network's forward.
    """

    def forward(parameters: Parameters, images: Tensor) -> Tensor:
        own = network.named_buffers()
        buffers = {name: parameters.get(name, buffer).clone() for name, buffer in own}
        with casting(autocast, images.device):
            return call(network, {**parameters, **buffers}, prepare(images), **arguments)

    return forward


def call(
    network: nn.Module, state: Mapping[str, Tensor], images: Tensor, **arguments: Any
) -> Tensor:
    """Run the network with other tensors in the place of some of its parameters and buffers.

    A tensor that the network holds under several names is replaced under all of them, in each
    module once: with its own ``tie_weights`` torch forgets the tensors of a module that is
    registered twice, and leaves the given ones in the network (pytorch/pytorch#164759).

    Args:
        network: is the same after the call.
        state: parameters and buffers, by the names that ``named_parameters`` and ``named_buffers``
            give; KeyError for others.
        images: what the network sees.
        arguments: further arguments of the network's forward.
    """
    places = {
        name: tensor
        for path, module in network.named_modules()
        for members in (module.named_parameters, module.named_buffers)
        for name, tensor in members(path, recurse=False, remove_duplicate=False)
    }
    given = {places[name]: tensor for name, tensor in state.items()}
    untied = {name: given[tensor] for name, tensor in places.items() if tensor in given}
    with torch.compiler.set_stance("force_eager"):  # only the engine's passes are compiled
        return functional_call(network, untied, (images,), arguments, tie_weights=False)


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
        return call(network, state, prepare(images))

    return forward
