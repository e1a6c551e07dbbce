"""Forward-mode derivatives of networks: exact or refused, at a lower cost than torch's own.

:func:`pushforward` moves the parameters along a direction. Most functions are differentiated by
torch itself. Inside :class:`Tangents` two that cost the most follow rules of their own; dx, dw, db
are the tangents of input, weight and bias:

- 2d convolution is bilinear: y = x∗w + b has the tangent x∗dw + dx∗w + db. If y is known from an
  earlier pass at the same parameters (:class:`Recording`), only the tangent is computed.
- Batch norm in training mode maps x to x̂w + b with x̂ = (x − mean)/std over the batch. The Jacobian
  of x ↦ x̂w is w/std times a projection, hence symmetric: the tangent that dx causes is what the
  *backward* pass would give for the gradient dx, one fused operation. To it come x̂dw + db.

What reverse mode takes for a constant is one here: ``detach()``, ``.data``, and whatever a module
computes under ``torch.no_grad()``, through which torch's own forward mode would differentiate.

Functions that draw random numbers (dropout, stochastic depth) are differentiated for the numbers
drawn in this pass; when a recorded pass is repeated, for those that it drew.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

# Of an output worth keeping, multiply-adds per value: where values are cheap they are many.
WORTH_KEEPING = 128


def pushforward(
    function: Callable[[Mapping[str, Tensor]], Tensor],
    theta: Mapping[str, Tensor],
    v: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """Differentiate ``function`` at θ along v, in one pass and without a graph.

    Args:
        function: parameters, by name → a tensor, usually logits [K, B, C].
        theta: θ, by name.
        v: the direction, by the same names.

    Returns:
        The function's value, and its tangent of the same shape.

    Raises:
        ValueError: if torch cannot differentiate a module in forward mode, or nothing moves.
    """
    try:
        value, tangent = _pushforward(function, theta, v)
    except NotImplementedError as error:  # torch's word for a missing forward-mode derivative
        reason = str(error).splitlines()[0]
        where = module_that_fails(lambda: _pushforward(function, theta, v))
        raise ValueError(
            f"no forward-mode derivative of {where}: {reason} Replace that module, or use a "
            "method whose γ does not learn"
        ) from error
    if tangent is None:
        raise ValueError(
            "the network's output depends on none of the parameters that learn: look for a "
            "detach() or torch.no_grad() around its forward pass, or unfreeze some of them"
        )
    return value, tangent


def _pushforward(
    function: Callable[[Mapping[str, Tensor]], Tensor],
    theta: Mapping[str, Tensor],
    v: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor | None]:
    # With gradients enabled, for a module's own no_grad() to be seen; no graph arises, since
    # nothing requires a gradient. Of the kernels of attention only "math" can be differentiated.
    with (
        torch.enable_grad(),
        forward_ad.dual_level(),
        sdpa_kernel(SDPBackend.MATH),
        Tangents(),
    ):
        moving = {n: forward_ad.make_dual(value.detach(), v[n]) for n, value in theta.items()}
        value, tangent = forward_ad.unpack_dual(function(moving))
    return value.detach(), None if tangent is None else tangent.detach()


def module_that_fails(run: Callable[[], object]) -> str:
    """Name the innermost module that is at work when ``run`` fails for lack of a derivative."""
    at_work: list[nn.Module] = []

    def enter(module: nn.Module, _: object) -> None:
        at_work.append(module)

    def leave(module: nn.Module, *_: object) -> None:
        at_work.pop()

    handles = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    ]
    try:
        run()
    except NotImplementedError:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if not at_work:
        return "the network"
    name = next(name for name, module in at_work[0].named_modules() if module is at_work[-1])
    kind = type(at_work[-1]).__name__
    return f"{name} ({kind})" if name else kind


class Tangents(TorchFunctionMode):
    """Inside a ``forward_ad.dual_level``: the rules of this module, and otherwise torch's own.

    Args:
        outputs: what the 2d convolutions gave, in order, in a pass with the same parameters,
            images and random numbers; by default all are computed.
    """

    def __init__(self, outputs: Sequence[Output | None] | None = None) -> None:
        super().__init__()
        self.outputs = outputs
        self.convolutions = 0  # that have been met

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Apply a rule where there is one."""
        kwargs = kwargs or {}
        known = self.next_output() if func is torch.conv2d else None
        if not torch.is_grad_enabled():
            return constant(func, args, kwargs)
        if func is torch.conv2d:
            return conv2d(known, *args, **kwargs)
        return RULES.get(func, func)(*args, **kwargs)

    def next_output(self) -> Tensor | None:
        """Take what the next convolution gave, if that is known and unchanged."""
        self.convolutions += 1
        if self.outputs is None:
            return None
        if self.convolutions > len(self.outputs):
            raise other_path(f"more convolutions than the {len(self.outputs)} recorded")
        output = self.outputs[self.convolutions - 1]
        return None if output is None else output.unchanged()

    def check_complete(self) -> None:
        """Make sure that all recorded convolutions have been met.

        Raises:
            ValueError: if some have not.
        """
        if self.outputs is not None and self.convolutions < len(self.outputs):
            raise other_path(
                f"{self.convolutions} convolutions, not {len(self.outputs)} as recorded"
            )


def other_path(found: str) -> ValueError:
    """Describe a pass that is not a repetition of the recorded one."""
    return ValueError(
        f"the forward-mode pass runs {found} in training: the network must do the same again for "
        f"the same images, parameters, buffers and random numbers (of torch and Python's random)"
    )


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
            with Tangents(self.outputs) as tangents:
                yield
            tangents.check_complete()
        finally:
            later.restore()


def unpack(tensor: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Split into value and tangent; the latter is None for what does not move."""
    return (None, None) if tensor is None else forward_ad.unpack_dual(tensor)


def constant(func: Callable, args: tuple, kwargs: dict) -> Any:
    """Run ``func`` on the values alone, as under ``no_grad()`` in reverse mode."""
    moving: dict[int, Tensor] = {}

    def value_of(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        value, tangent = forward_ad.unpack_dual(leaf)
        if tangent is None:
            return leaf
        moving[id(value)] = leaf
        return value

    values, named_values = tree_map(value_of, (args, kwargs))
    result = func(*values, **named_values)
    return moving.get(id(result), result)  # an operation in place leaves the tangent


def conv2d(
    known: Tensor | None,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *geometry: Any,
    **named_geometry: Any,
) -> Tensor:
    """Convolve: y = x∗w + b and dy = x∗dw + dx∗w + db; ``known`` is y, if it is known."""
    (x, dx), (w, dw) = unpack(input), unpack(weight)
    if dx is None and dw is None:
        return torch.conv2d(input, weight, bias, *geometry, **named_geometry)

    def convolve(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return torch.conv2d(x, w, b, *geometry, **named_geometry)

    b, db = unpack(bias)
    y = convolve(x, w, b) if known is None else known
    terms = [(a, k) for a, k in ((x, dw), (dx, w)) if a is not None and k is not None]
    dy = convolve(*terms[0], db)
    for term in terms[1:]:
        dy += convolve(*term, None)
    if (y.shape, y.dtype) != (dy.shape, dy.dtype):
        here, there = (f"{list(t.shape)} in {t.dtype}" for t in (dy, y))
        raise other_path(f"a convolution that gives {here}, not {there} as recorded")
    return forward_ad.make_dual(y, dy)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise by the batch's statistics: y = x̂w + b, and its tangent, for x [B, C, …].

    The running statistics are left alone. With them (in evaluation mode), or if x does not move,
    by torch's own forward mode.
    """
    (x, dx), (w, dw), (b, db) = unpack(input), unpack(weight), unpack(bias)
    if dx is None or not training:
        return functional.batch_norm(
            input, running_mean, running_var, weight, bias, training, momentum, eps
        )
    y, mean, inverse_std = torch.native_batch_norm(x, w, b, None, None, True, 0.0, eps)
    dy, *_ = torch.ops.aten.native_batch_norm_backward(
        dx, x, w, None, None, mean, inverse_std, True, eps, [True, False, False]
    )
    if dw is None and db is None:
        return forward_ad.make_dual(y, dy)
    dw, db = (torch.zeros_like(mean) if tangent is None else tangent for tangent in (dw, db))
    scale = dw * inverse_std  # x̂dw + db = x·scale + (db − mean·scale)
    offset = db - mean * dw * inverse_std
    per_channel = (-1, *[1] * (x.dim() - 2))
    scale, offset = (values.to(x.dtype).view(per_channel) for values in (scale, offset))
    return forward_ad.make_dual(y, dy.add_(offset).addcmul_(x, scale))


def lstm(*args: Any, **kwargs: Any) -> Any:
    """Run an LSTM by torch's own kernels: oneDNN's have no derivative in forward mode."""
    with torch.backends.mkldnn.flags(enabled=False):
        return torch.lstm(*args, **kwargs)


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Give g·v/‖v‖: torch's fused kernel has no derivative in forward mode."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


RULES: dict[Callable, Callable] = {
    functional.batch_norm: batch_norm,
    torch.lstm: lstm,
    torch._weight_norm: weight_norm,
}
