"""How some functions carry tangents, where torch has no rule or a slow one.

dx, dw, db are the tangents of input, weight and bias.

- 2d convolution is bilinear: y = x∗w + b has the tangent x∗dw + dx∗w + db. If y is known from an
  earlier pass at the same parameters, only the tangent is computed. Concatenations take over
  theirs in the same way.
- Batch norm in training mode maps x to x̂w + b with x̂ = (x − mean)/std over the batch. The Jacobian
  of x ↦ x̂w is w/std times a projection, hence symmetric: the tangent that dx causes is what the
  *backward* pass would give for the gradient dx. To it come x̂dw + db. On a GPU mean and std are not
  computed again if they are known from an earlier pass.
- LSTMs and weight norm: torch's fast kernels have no derivative in forward mode, others have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, overload

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
    for a, k in terms[1:]:
        if is_pointwise(k, *geometry, **named_geometry) and is_summed_in_product(a, dy):
            rows(dy).addmm_(rows(a).to(dy.dtype), k.flatten(1).t().to(dy.dtype))
        else:
            dy += convolve(a, k, None)
    check_same_kind("a convolution", y, dy)
    return forward_ad.make_dual(y, dy)


def is_pointwise(
    weight: Tensor, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> bool:
    """Tell whether a convolution maps each pixel by itself: it is a product of matrices."""
    pointwise = weight.shape[2:].numel() == 1 and groups == 1
    return pointwise and stride in (1, (1, 1)) and padding in (0, (0, 0), "valid", "same")


def is_summed_in_product(a: Tensor, dy: Tensor) -> bool:
    """Tell whether a product with the maps ``a`` is to add itself to ``dy``, which spares a map.

    That takes channels last. On a GPU float32 stays a convolution, which may round to TF32.
    """
    in_rows = all(
        maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last)
        for maps in (a, dy)
    )
    return in_rows and not (dy.is_cuda and dy.dtype == torch.float32)


def rows(maps: Tensor) -> Tensor:
    """See maps [B, C, H, W] in channels last as [B·H·W, C]."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def check_same_kind(what: str, known: Tensor, tangent: Tensor) -> None:
    """Refuse a recorded value of another kind than the tangent that was computed now.

    Raises:
        ValueError: if their shapes or dtypes differ.
    """
    if (known.shape, known.dtype) != (tangent.shape, tangent.dtype):
        here, there = (f"{list(t.shape)} in {t.dtype}" for t in (tangent, known))
        raise other_path(f"{what} that gives {here}, not {there} as recorded")


def cat(
    known: Tensor | None, tensors: tuple[Tensor, ...] | list[Tensor], *dim: Any, **named: Any
) -> Tensor:
    """Concatenate tangents; ``known`` is what the values give, if it is known."""
    duals = [unpack(tensor) for tensor in tensors]
    if known is None or all(dx is None for _, dx in duals):
        return torch.cat(tensors, *dim, **named)
    dy = torch.cat([torch.zeros_like(x) if dx is None else dx for x, dx in duals], *dim, **named)
    check_same_kind("a concatenation", known, dy)
    return forward_ad.make_dual(known, dy)


class Statistics(NamedTuple):
    """What batch norm found in a batch, each [C]."""

    mean: Tensor
    inverse_std: Tensor


def batch_norm(
    known: Statistics | None,
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
    by torch's own forward mode. ``known`` are the batch's statistics, if they are known.
    """
    (x, dx), (w, dw), (b, db) = unpack(input), unpack(weight), unpack(bias)
    if dx is None or not training:
        return functional.batch_norm(
            input, running_mean, running_var, weight, bias, training, momentum, eps
        )
    if known is not None and x.is_cuda:
        y = torch.batch_norm_elemt(x, w, b, *known, eps)
    else:  # a CPU's kernels would round 1/std once more, which moves ReLUs across their kinks
        y, *found = torch.native_batch_norm(x, w, b, None, None, True, 0.0, eps)
        known = Statistics(*found)
    if x.is_cuda and w is not None and dw is not None and db is not None:
        return forward_ad.make_dual(y, moved_in_one(x, dx, w, dw, db, known))
    mean, inverse_std = known
    dy, *_ = torch.ops.aten.native_batch_norm_backward(
        dx, x, w, None, None, mean, inverse_std, True, eps, [True, False, False]
    )
    if dw is None and db is None:
        return forward_ad.make_dual(y, dy)
    dw, db = (torch.zeros_like(mean) if tangent is None else tangent for tangent in (dw, db))
    # x̂dw + db, in one operation: batch norm by the statistics that are known now.
    moved, *_ = torch.native_batch_norm(x, dw, db, mean, inverse_std.pow(-2), False, 0.0, 0.0)
    return forward_ad.make_dual(y, dy.add_(moved))


def moved_in_one(
    x: Tensor, dx: Tensor, w: Tensor, dw: Tensor, db: Tensor, known: Statistics
) -> Tensor:
    """Give batch norm's tangent on a GPU, where the feature maps are read once less.

    Over N values of a channel, with r = 1/std, the backward pass gives

        wr·(dx − S/N − (x − mean)r²·P/N)    with S = Σdx and P = Σdx(x − mean).

    With S − N·db/(wr) and P − N·dw/(wr²) for S and P, that is wr(…) + x̂dw + db.
    """
    mean, r = known
    of_sums = torch.batch_norm_backward_reduce(dx, x, mean, r, w, True, False, False)
    s, p = of_sums[0], of_sums[1]
    n = x.numel() // x.shape[1]
    count = torch.full((1,), n, dtype=torch.int32, device=x.device)
    w = torch.where(w == 0, SMALLEST_WEIGHT, w)
    ratio = n / (w * r)
    s = torch.addcmul(s, db, ratio, value=-1)
    p = torch.addcdiv(p, dw * ratio, r, value=-1)
    return torch.batch_norm_backward_elemt(dx, x, mean, r, w, s, p, count)


SMALLEST_WEIGHT = 1e-20  # instead of 0, by which cannot be divided


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
    functional.relu: relu,
    torch.lstm: lstm,
    torch._weight_norm: weight_norm,
}
