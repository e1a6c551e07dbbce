"""A training pass remembered, for the forward-mode pass at the same parameters to repeat it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hdkd_dist.method.forward_mode import Tangents

# Of an output worth keeping, multiply-adds per value: where values are cheap they are many.
WORTH_KEEPING = 128


@dataclass(frozen=True)
class Output:
    """What a convolution gave."""

    value: Tensor  # shares memory with what the network went on with
    version: int  # of that memory; an operation in place raises it

    def unchanged(self) -> Tensor | None:
        """Return the value, or None if an operation in place (``out += shortcut``) went over it."""
        return self.value if self.value._version == self.version else None


@dataclass(frozen=True)
class RandomState:
    """Where the generators of random numbers stand: Python's, torch's and the current GPU's."""

    python: tuple
    cpu: Tensor
    gpu: Tensor | None

    @classmethod
    def now(cls) -> RandomState:
        """Read the generators."""
        gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return cls(random.getstate(), torch.get_rng_state(), gpu)

    def restore(self) -> None:
        """Set the generators back."""
        random.setstate(self.python)
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu)


class Recording(TorchFunctionMode):
    """Keep what the costly 2d convolutions of a forward pass give, for the forward-mode pass.

    Batch norm keeps these tensors for its backward pass, so that they cost no memory before that.

    Args:
        buffers: the network's, with their names; :attr:`buffers` are copies from the start of the
            pass, which a repetition must start from (spectral norm, for one, computes with them).
    """

    def __init__(self, buffers: Iterable[tuple[str, Tensor]] = ()) -> None:
        super().__init__()
        self.buffers = {name: buffer.clone() for name, buffer in buffers}
        self.outputs: list[Output | None] = []
        self.random_state = RandomState.now()

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run ``func``, and remember what it gives."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is torch.conv2d:
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            worth_keeping = weight[0].numel() >= WORTH_KEEPING
            output = Output(result.detach(), result._version) if worth_keeping else None
            self.outputs.append(output)
        return result

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Within, a forward-mode pass repeats the recorded one, with the same random numbers.

        Raises:
            ValueError: if it does not run the same convolutions.
        """
        later = RandomState.now()
        self.random_state.restore()
        try:
            known = [None if each is None else each.unchanged() for each in self.outputs]
            with Tangents(known) as tangents:
                yield
            tangents.check_complete()
        finally:
            later.restore()
