"""The network as a function of its parameters, beside the engine that trains it.

The γ step runs the network on parameters that are not its own. Such a pass starts few operations
besides the network's: where tensors belong is found once, batch norm's running statistics, which
a pass in training mode does not read, take no part in it, and weights are converted together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hdkd_dist.method.hypergradient import Forward, Parameters

Prepare = Callable[[Tensor], Tensor]  # stored images → what the network sees


def unchanged(images: Tensor) -> Tensor:
    """Return the images as they are."""
    return images


@dataclass(frozen=True)
class Place:
    """Where a module holds a parameter or a buffer."""

    module: nn.Module
    members: dict[str, Tensor | None]  # the module's own dictionary of parameters or buffers
    name: str

    @property
    def tensor(self) -> Tensor:
        """What is there now."""
        tensor = self.members[self.name]
        assert tensor is not None
        return tensor

    @property
    def is_buffer(self) -> bool:
        """Tell whether it is for a buffer."""
        return self.members is self.module._buffers

    @property
    def is_unread_statistic(self) -> bool:
        """Tell whether it is for a running statistic, which training only writes."""
        is_plain_batch_norm = type(self.module).forward is _BatchNorm.forward
        return self.is_buffer and is_plain_batch_norm and self.module.training

    @property
    def is_autocast(self) -> bool:
        """Tell whether it is for a weight or bias that autocast converts where it is used."""
        return self.name in ("weight", "bias") and type(self.module).forward in AUTOCAST_FORWARDS


# A subclass that computes something else has a forward of its own.
AUTOCAST_FORWARDS = {kind.forward for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)}

Places = Mapping[str, list[Place]]  # by the name that named_parameters and named_buffers give


def places_of(network: nn.Module) -> Places:
    """Find where each parameter and buffer is held: one held under several names, at all of them.

    Each module counts once: torch's ``functional_call`` with ``tie_weights`` forgets the tensors of
    a module that is registered twice (pytorch/pytorch#164759).
    """
    places: dict[int, list[Place]] = {}
    names: dict[int, str] = {}
    for path, module in network.named_modules():
        for members in (module._parameters, module._buffers):
            for name, tensor in members.items():
                if tensor is not None:
                    places.setdefault(id(tensor), []).append(Place(module, members, name))
                    names.setdefault(id(tensor), f"{path}.{name}" if path else name)
    return {names[key]: found for key, found in places.items()}


@contextmanager
def replaced(places: Places, state: Mapping[str, Tensor | None]) -> Iterator[None]:
    """Within, put other tensors in the place of a network's own.

    Args:
        places: of the network.
        state: parameters and buffers by name; KeyError for names that the network has not.
    """
    own: list[tuple[Place, Tensor | None]] = []
    try:
        for name, tensor in state.items():
            for place in places[name]:
                own.append((place, place.members[place.name]))
                place.members[place.name] = tensor
        with torch.compiler.set_stance("force_eager"):  # only the engine's passes are compiled
            yield
    finally:
        for place, tensor in reversed(own):
            place.members[place.name] = tensor


def forward_of(
    network: nn.Module,
    prepare: Prepare = unchanged,
    autocast: torch.dtype | None = None,
    casts_together: bool = False,
    **arguments: Any,
) -> Forward:
    """Make the network in training mode a function of its parameters: (θ, images) → [K, B, C].

    A pass leaves no trace in the network: batch norm uses each batch's own statistics and writes
    the running ones where nobody reads them; other buffers are cloned. θ may leave parameters out
    (frozen ones), for which the network's own stand in, and may name buffers, which then stand in
    for the network's.

    Args:
        network: stays as it is; it must not be moved or rebuilt later.
        prepare: stored images → what the network sees.
        autocast: run under autocast to this type; the parameters stay in float32.
        casts_together: convert the weights, which autocast would convert one by one, in one
            operation. Only for networks that nowhere switch autocast off.
        arguments: further arguments of the network's forward.
    """
    places = places_of(network)
    buffers = {name: held[0] for name, held in places.items() if held[0].is_buffer}
    together = [
        name
        for name, held in places.items()
        if casts_together and autocast is not None and all(place.is_autocast for place in held)
    ]

    scratch: dict[str, Tensor | None] = {}  # for statistics: allocated once and never read

    def forward(parameters: Parameters, images: Tensor) -> Tensor:
        state: dict[str, Tensor | None] = dict(parameters)
        for name, place in buffers.items():
            if name in state or not place.is_unread_statistic:
                state[name] = parameters.get(name, place.tensor).clone()
                continue
            if name not in scratch:  # a count of batches is not even written
                counts = not place.tensor.is_floating_point()
                scratch[name] = None if counts else torch.zeros_like(place.tensor)
            state[name] = scratch[name]
        weights = {name: state[name] for name in together if name in state}
        state |= dict(zip(weights, Cast.apply(autocast, *weights.values()), strict=True))
        with casting(autocast, images.device), replaced(places, state):
            return network(prepare(images), **arguments)

    return forward


class Cast(torch.autograd.Function):
    """Convert float32 tensors to another type in one operation, and their derivatives as well."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Give the tensors in ``dtype``."""
        ctx.dtype = dtype
        ctx.set_materialize_grads(False)
        return converted(dtype, tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Give the gradients in float32; None where there is none."""
        return None, *converted(torch.float32, gradients)

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Give the tangents in ``dtype``; None for what does not move."""
        return converted(ctx.dtype, tangents)


@overload
def converted(dtype: torch.dtype, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]: ...
@overload
def converted(
    dtype: torch.dtype, tensors: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]: ...
def converted(dtype: torch.dtype, tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Return the tensors in another type, in the same memory format; None stays."""
    results = [t if t is None else torch.empty_like(t, dtype=dtype) for t in tensors]
    filled = [result for result in results if result is not None]
    if filled:
        torch._foreach_copy_(filled, [t for t in tensors if t is not None])
    return tuple(results)


def buffers_read(network: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a pass in training mode reads, by name."""
    return {
        name: held[0].tensor
        for name, held in places_of(network).items()
        if held[0].is_buffer and not held[0].is_unread_statistic
    }


def casting(autocast: torch.dtype | None, device: torch.device) -> AbstractContextManager:
    """Open autocast to a type; without its cache, which only serves what requires a gradient."""
    if autocast is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=autocast, cache_enabled=False)


@dataclass
class Copies:
    """Copies of tensors, in memory that is allocated once: the next copies overwrite them."""

    _held: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def taken(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Copy tensors, by name, which do not require a gradient then."""
        if self._held.keys() != tensors.keys():
            self._held = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
        torch._foreach_copy_(list(self._held.values()), list(tensors.values()))
        return self._held


def evaluation_of(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    prepare: Prepare = unchanged,
    autocast: torch.dtype | None = None,
) -> Callable[[Tensor], Tensor]:
    """Return the network in evaluation mode with the given weights: images → [K, B, C].

    Args:
        network: goes into evaluation mode.
        tensors: parameters and buffers that stand in for the network's own, by name.
        prepare: stored images → what the network sees.
        autocast: run under autocast to this type, as training does; the logits come in float32.
    """
    network.eval()
    places = places_of(network)

    def forward(images: Tensor) -> Tensor:
        with casting(autocast, images.device), replaced(places, tensors):
            return network(prepare(images)).float()

    return forward
