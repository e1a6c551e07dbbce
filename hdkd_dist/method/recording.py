"""A training pass remembered, for the forward-mode pass at the same parameters to repeat it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hdkd_dist.method.forward_mode import Tangents
from hdkd_dist.method.hypergradient import Forward, Parameters
from hdkd_dist.method.tangent_rules import Statistics

# Of an output worth keeping, multiply-adds per value: where values are cheap they are many.
WORTH_KEEPING = 128


@dataclass(frozen=True)
class Output:
    """What a convolution or a concatenation gave."""

    value: Tensor  # shares memory with what the network went on with
    version: int  # of that memory; an operation in place raises it, but not one on ``.data``

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
        gpu = torch.cuda.get_rng_state() if on_gpu() else None
        return cls(random.getstate(), torch.get_rng_state(), gpu)

    def restore(self) -> None:
        """Set the generators back."""
        random.setstate(self.python)
        torch.set_rng_state(self.cpu)
        if self.gpu is not None and on_gpu():
            torch.cuda.set_rng_state(self.gpu)

    def equals(self, other: RandomState) -> bool:
        """Tell whether nothing was drawn between the two."""
        gpu = self.gpu is None or other.gpu is None or torch.equal(self.gpu, other.gpu)
        return self.python == other.python and torch.equal(self.cpu, other.cpu) and gpu


def on_gpu() -> bool:
    """Tell whether a GPU's generator may be asked: not while a graph is captured."""
    return torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing()


class Recording(TorchFunctionMode):
    """Keep what a forward pass finds that the forward-mode pass would have to find again.

    That is what its costly 2d convolutions give, on a GPU its concatenations too, and the
    statistics by which batch norm normalises. The backward pass needs nearly all of these tensors,
    so that they cost memory only after it.

    Args:
        buffers: the network's, with their names; :attr:`buffers` are copies from the start of the
            pass, which a repetition must start from (spectral norm, for one, computes with them).
    """

    active: ClassVar[Recording | None] = None  # the one that is keeping what is computed now

    def __init__(self, buffers: Iterable[tuple[str, Tensor]] = ()) -> None:
        super().__init__()
        self.buffers = {name: buffer.clone() for name, buffer in buffers}
        self.found = nothing_found()
        self.lasts = False  # whether it lies where that of every such pass will lie
        self.random_state = RandomState.now()

    def __enter__(self) -> Recording:
        """Begin to keep."""
        Recording.active = self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Keep no more."""
        super().__exit__(*error)
        Recording.active = None

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run ``func``, and keep what it finds."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in KEEPING:
            self.found[func].append(KEEPING[func](result, *args, **kwargs))
        return result

    def repeat(self, found: Found) -> None:
        """Keep what a graph finds, which computes all in one piece and always in the same place."""
        self.found, self.lasts = found, True

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Within, a forward-mode pass repeats the recorded one, with the same random numbers.

        Raises:
            ValueError: if it does not run the same convolutions and batch norms.
        """
        later = RandomState.now()
        self.random_state.restore()
        try:
            with Tangents({func: list(map(unchanged, of)) for func, of in self.found.items()}) as t:
                yield
            t.check_complete()
        finally:
            later.restore()


Found = dict[Callable, list[Any]]  # call by call, of each function that is kept


def output_of(result: Tensor, *args: Any, **kwargs: Any) -> Output | None:
    """Give a convolution's output, if it is worth keeping."""
    weight = args[1] if len(args) > 1 else kwargs["weight"]
    if weight[0].numel() < WORTH_KEEPING:
        return None
    return Output(result.detach(), result._version)


def statistics_of(result: Tensor, *args: Any, **kwargs: Any) -> Statistics | None:
    """Give the statistics that batch norm has kept for its backward pass, if it trains."""
    training = args[5] if len(args) > 5 else kwargs.get("training", False)
    mean, inverse_std = (getattr(result.grad_fn, f"_saved_result{i}", None) for i in (1, 2))
    if not training or mean is None or inverse_std is None:
        return None
    return Statistics(mean, inverse_std)


def concatenation_of(result: Tensor, *args: Any, **kwargs: Any) -> Output | None:
    """Give concatenated maps, if the pass is differentiated and on a GPU.

    There that spares 2 % of a step of γ, for memory until its end; on a CPU nothing that shows.
    """
    keep = result.is_cuda and result.dim() == 4 and result.requires_grad
    return Output(result.detach(), result._version) if keep else None


KEEPING: dict[Callable, Callable] = {
    torch.conv2d: output_of,
    functional.batch_norm: statistics_of,
    torch.cat: concatenation_of,
}


def nothing_found() -> Found:
    """Begin with no call of any function."""
    return {func: [] for func in KEEPING}


def unchanged(found: Output | Statistics | None) -> Tensor | Statistics | None:
    """Return what was found, where nothing has gone over it since."""
    return found.unchanged() if isinstance(found, Output) else found


def recorded(forward: Forward, record: Recording | None) -> Forward:
    """Return the function that also keeps a record of what it computes, where there is one."""
    if record is None:
        return forward

    def recording(parameters: Parameters, images: Tensor) -> Tensor:
        with record:
            return forward(parameters, images)

    return recording


def repeating(forward: Forward, record: Recording | None) -> Forward:
    """Return the function that takes over what is on record, where there is one."""
    if record is None:
        return forward

    def repeated(parameters: Parameters, images: Tensor) -> Tensor:
        with record.repeated():
            return forward({**record.buffers, **parameters}, images)

    return repeated
