"""How some functions carry tangents, where torch has no rule or a slow one.

dx, dw, db are the tangents of input, weight and bias.

- 2d convolution is bilinear: y = x∗w + b has the tangent x∗dw + dx∗w + db. If y is known from an
  earlier pass at the same parameters, only the tangent is computed.
- Batch norm in training mode maps x to x̂w + b with x̂ = (x − mean)/std over the batch. The Jacobian
  of x ↦ x̂w is w/std times a projection, hence symmetric: the tangent that dx causes is what the
  *backward* pass would give for the gradient dx, one fused operation. To it come x̂dw + db.
- LSTMs and weight norm: torch's fast kernels have no derivative in forward mode, others have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils._pytree import tree_map


@overload
def unpack(tensor: Tensor) -> tuple[Tensor, Tensor | None]: ...
@overload
def unpack(tensor: Tensor | None) -> tuple[Tensor | None, Tensor | None]: ...
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
    # x̂dw + db, in one operation: batch norm by the statistics that are known now.
    moved, *_ = torch.native_batch_norm(x, dw, db, mean, inverse_std.pow(-2), False, 0.0, 0.0)
    return forward_ad.make_dual(y, dy.add_(moved))


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Cut at 0 as torch does; in place without copies of value and tangent."""
    x, dx = unpack(input)
    if dx is None:
        return functional.relu(input, inplace)
    if not inplace:
        y = torch.relu(x)
        return forward_ad.make_dual(y, torch.ops.aten.threshold_backward(dx, y, 0))
    torch.ops.aten.threshold_backward.grad_input(dx, x.relu_(), 0, grad_input=dx)
    return input


def lstm(*args: Any, **kwargs: Any) -> Any:
    """Run an LSTM by torch's own kernels: oneDNN's have no derivative in forward mode."""
    with torch.backends.mkldnn.flags(enabled=False):
        return torch.lstm(*args, **kwargs)


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Give g·v/‖v‖: torch's fused kernel has no derivative in forward mode."""
    return v * (g / torch.norm_except_dim(v, 2, dim))


def other_path(found: str) -> ValueError:
    """Describe a pass that is not a repetition of the recorded one."""
    return ValueError(
        f"the forward-mode pass runs {found} in training: the network must do the same again for "
        f"the same images, parameters, buffers and random numbers (of torch and Python's random)"
    )


RULES: dict[Callable, Callable] = {
    functional.batch_norm: batch_norm,
    functional.relu: relu,
    torch.lstm: lstm,
    torch._weight_norm: weight_norm,
}
