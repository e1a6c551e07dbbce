"""Passes through the network as CUDA graphs: one call starts what is thousands of calls otherwise.

A GPU finishes the small operations of a multi-exit network faster than the host can start them. A
graph holds the operations of a pass with the addresses they read and write; started again, it does
the same to what lies there then. The first passes run as usual, to see whether they can be repeated
so; then each kind of pass is captured once.

What the host does in a pass is not done again: random numbers would repeat, and Python would not
see how far training has come. So a pass that draws random numbers stays as it is, and so does one
with tensors of other shapes than those captured.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from hdkd_dist.method.hypergradient import Forward, Parameters
from hdkd_dist.method.recording import Found, RandomState, Recording, nothing_found

Result = TypeVar("Result")
Replay = Callable[[], None]  # do again what was captured

PASSES_BEFORE = 2  # a capture: the first pass allocates what later ones reuse


@dataclass(frozen=True)
class CudaCapture:
    """Capture work of the current GPU; all captures share memory, and are replayed in their order.

    A reader's threads may use the GPU meanwhile: only this thread's work is captured.
    """

    pool: Any = field(default_factory=lambda: torch.cuda.graph_pool_handle())

    def __call__(self, run: Callable[[], Result]) -> tuple[Replay, Result]:
        """Capture what ``run`` would do; what it returns is filled by each replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            result = run()
        return graph.replay, result


Capture = Callable[[Callable[[], Any]], tuple[Replay, Any]]


@dataclass
class Graphs:
    """The captured passes of one training.

    Attributes:
        capture: makes a graph.
        passes: by their names and by how they are differentiated.
    """

    capture: Capture
    passes: dict[tuple[str, type[Captured]], Pass] = field(default_factory=dict)

    def replayed(self, name: str, forward: Forward, ready: bool = True) -> Forward:
        """Return the function that runs ``forward`` at first, and then repeats it as a graph.

        Args:
            name: of the pass; whatever function comes under it must do the same.
            forward: (parameters, images) → logits [K, B, C].
            ready: whether what ``forward`` reads besides lies where it will always lie.
        """

        def run(parameters: Parameters, images: Tensor) -> Tensor:
            key = name, kind_of(parameters)
            found = self.passes.setdefault(key, Pass(key[1], self.capture))
            return found.run(forward, parameters, images, ready)

        return run

    @contextmanager
    def training(self, network: nn.Module, theta: Parameters) -> Iterator[None]:
        """Within, repeat the network's own passes, which the engine calls, as a graph.

        Args:
            network: in training mode.
            theta: those of its parameters that are trained, by name.
        """
        own, attributes = network.forward, vars(network)
        before = attributes.get("forward")

        def forward(images: Tensor, **arguments: Any) -> Tensor:
            run = self.replayed("training", lambda _, images: own(images, **arguments))
            return run(theta, images)

        attributes["forward"] = forward
        try:
            yield
        finally:
            del attributes["forward"]
            if before is not None:
                attributes["forward"] = before


def kind_of(parameters: Parameters) -> type[Captured]:
    """Tell how a pass at these parameters is differentiated."""
    first = next(iter(parameters.values()))
    if forward_ad.unpack_dual(first).tangent is not None:
        return ForwardMode
    return ReverseMode if torch.is_grad_enabled() and first.requires_grad else NoDerivative


@dataclass
class Pass:
    """One kind of pass: eager at first, then captured."""

    kind: type[Captured]
    capture: Capture
    seen: int = 0  # passes that could have been captured
    captured: Captured | None = None
    kept: Found | None = None  # what a recording keeps of it
    refused: bool = False

    def run(self, forward: Forward, parameters: Parameters, images: Tensor, ready: bool) -> Tensor:
        """Run the pass, in one way or the other."""
        if self.refused or not ready:
            return forward(parameters, images)
        if self.captured is None and self.seen < PASSES_BEFORE:
            return self.watched(forward, parameters, images)
        if self.captured is None:
            self.take(forward, parameters, images)
        record = Recording.active
        unknown = record is not None and self.kept is None
        if self.captured is None or unknown or not self.captured.fits(parameters, images):
            return forward(parameters, images)
        if record is not None and self.kept is not None:
            record.repeat(self.kept)
        with torch._C.DisableTorchFunction():  # no mode need look at what is copied for a graph
            return self.captured(parameters, images)

    def watched(self, forward: Forward, parameters: Parameters, images: Tensor) -> Tensor:
        """Run the pass as it is, and refuse to capture it if it draws random numbers."""
        before = RandomState.now()
        logits = forward(parameters, images)
        if not RandomState.now().equals(before):
            self.refuse("it draws random numbers")
        self.seen += 1
        return logits

    def refuse(self, reason: str) -> None:
        """Leave the pass as it is, and say so."""
        self.refused = True
        warnings.warn(f"a pass does not become a CUDA graph: {reason}", stacklevel=2)

    def take(self, forward: Forward, parameters: Parameters, images: Tensor) -> None:
        """Capture the pass; where torch cannot, it stays as it is."""
        record = Recording.active
        # The engine's autocast keeps converted weights for the rest of a pass. A graph must neither
        # read some from before, which are freed, nor leave its own to the pass around it.
        torch.clear_autocast_cache()
        try:
            self.captured = self.kind(forward, parameters, images, self.capture)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.refuse(str(error).strip().splitlines()[0])
        torch.clear_autocast_cache()
        if record is not None:
            self.kept, record.found = record.found, nothing_found()


class Captured(ABC):
    """A captured pass: (parameters, images) → logits [K, B, C].

    It reads memory of its own, where each call copies its arguments; only a network's own
    parameters are read where they lie.

    Args:
        forward: the pass.
        parameters: of the shapes that it will have.
        images: likewise.
        capture: makes a graph.

    Raises:
        RuntimeError: if torch cannot capture the pass.
    """

    def __init__(
        self, forward: Forward, parameters: Parameters, images: Tensor, capture: Capture
    ) -> None:
        self.images = torch.empty_like(images)
        self.held = {name: held_for(tensor) for name, tensor in parameters.items()}
        self.take(forward, parameters, capture)

    @abstractmethod
    def take(self, forward: Forward, parameters: Parameters, capture: Capture) -> None:
        """Capture the pass at what is held."""

    @abstractmethod
    def __call__(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Repeat the pass for other arguments."""

    def fits(self, parameters: Parameters, images: Tensor) -> bool:
        """Tell whether the arguments are such as were captured."""
        return parameters.keys() == self.held.keys() and layout(images) == layout(self.images)

    def load(self, parameters: Parameters, images: Tensor) -> None:
        """Copy the arguments to where the graph reads them."""
        self.images.copy_(images)
        copy_all(self.held, parameters)


class NoDerivative(Captured):
    """A pass that nothing is differentiated through."""

    def take(self, forward: Forward, parameters: Parameters, capture: Capture) -> None:
        """Capture one graph."""
        self.replay, self.logits = capture(lambda: forward(self.held, self.images))

    def __call__(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Repeat the pass."""
        self.load(parameters, images)
        self.replay()
        return self.logits.clone()


class ForwardMode(Captured):
    """A pass with a tangent for each parameter: logits and their tangent, a dual tensor."""

    def take(self, forward: Forward, parameters: Parameters, capture: Capture) -> None:
        """Capture one graph of both."""
        self.tangents = {n: torch.empty_like(dual.tangent) for n, dual in unpacked(parameters)}

        def run() -> Any:
            moving = {n: forward_ad.make_dual(p, self.tangents[n]) for n, p in self.held.items()}
            return forward_ad.unpack_dual(forward(moving, self.images))

        self.replay, self.dual = capture(run)
        if self.dual.tangent is None:
            raise RuntimeError("no parameter moves the logits")

    def __call__(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Repeat the pass."""
        duals = dict(unpacked(parameters))
        self.load({name: dual.primal for name, dual in duals.items()}, images)
        copy_all(self.tangents, {name: dual.tangent for name, dual in duals.items()})
        self.replay()
        return forward_ad.make_dual(self.dual.primal.clone(), self.dual.tangent.clone())


class ReverseMode(Captured):
    """A pass that gradients come back through: two graphs, for the losses lie between them."""

    def take(self, forward: Forward, parameters: Parameters, capture: Capture) -> None:
        """Capture the pass there and the pass back."""
        self.passes = 0
        self.forward_replay, logits = capture(lambda: forward(self.held, self.images))
        self.logits = logits.detach()
        self.outward = torch.empty_like(self.logits)
        leaves = list(self.held.values())

        def back() -> Sequence[Tensor | None]:
            with torch.autocast(self.images.device.type, enabled=False):  # as where engines call it
                return torch.autograd.grad(logits, leaves, self.outward, allow_unused=True)

        self.backward_replay, self.gradient = capture(back)

    def __call__(self, parameters: Parameters, images: Tensor) -> Tensor:
        """Repeat the pass there; the logits' backward pass will repeat the pass back."""
        self.load(parameters, images)
        logits: Tensor = Replayed.apply(self, *parameters.values())
        return logits

    def there(self) -> Tensor:
        """Give the logits."""
        self.forward_replay()
        self.passes += 1
        return self.logits.clone()

    def back(self, outward: Tensor) -> Iterator[Tensor | None]:
        """Give the parameters' gradients, in memory that is the caller's."""
        self.outward.copy_(outward)
        self.backward_replay()
        copies = iter(copied([gradient for gradient in self.gradient if gradient is not None]))
        return (gradient if gradient is None else next(copies) for gradient in self.gradient)


class Replayed(torch.autograd.Function):
    """Make two graphs one function of torch's."""

    @staticmethod
    def forward(ctx: Any, captured: ReverseMode, *parameters: Tensor) -> Tensor:
        """Give the logits."""
        logits = captured.there()
        ctx.captured, ctx.passes = captured, captured.passes
        return logits

    @staticmethod
    def backward(ctx: Any, outward: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Give the gradients by the parameters."""
        captured = ctx.captured
        if captured.passes != ctx.passes:
            raise RuntimeError("another pass has gone over what this backward pass needs")
        return None, *captured.back(outward)


def unpacked(parameters: Parameters) -> Iterator[tuple[str, Any]]:
    """Take dual tensors apart: names, and values with their tangents."""
    return ((name, forward_ad.unpack_dual(tensor)) for name, tensor in parameters.items())


def held_for(tensor: Tensor) -> Tensor:
    """Return a network's own parameter, or memory for a tensor that differs from call to call."""
    if isinstance(tensor, nn.Parameter):
        return tensor
    return torch.empty_like(tensor, requires_grad=tensor.requires_grad)


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy tensors in few operations."""
    copies = [torch.empty_like(tensor) for tensor in tensors]
    torch._foreach_copy_(copies, list(tensors))
    return copies


@torch.no_grad()
def copy_all(held: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors, by name, unless they are held themselves."""
    pairs = [(held[name], tensor) for name, tensor in tensors.items() if held[name] is not tensor]
    if pairs:
        into, tensors_from = zip(*pairs, strict=True)
        torch._foreach_copy_(into, tensors_from)


def layout(tensor: Tensor) -> tuple:
    """Tell how a tensor lies in memory."""
    return tensor.shape, tensor.dtype, tensor.stride()
