"""Forward-mode derivatives of convolutional networks, at a lower cost than torch's own.

Inside :class:`Tangents`, convolution and batch norm follow these rules; dx, dw, db are the
tangents of input, weight and bias:

- Convolution is bilinear: y = x∗w has the tangent x∗dw + dx∗w. If y is known from an earlier
  forward pass at the same parameters (:class:`Recording`), only the tangent is computed.
- Batch norm in training mode maps x to x̂w + b with x̂ = (x − mean)/std over the batch. The Jacobian
  of x ↦ x̂w is w/std times a projection, hence symmetric: the tangent that dx causes is what the
  *backward* pass would give for the gradient dx, one fused operation. To it come x̂dw + db.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Of an output worth keeping, multiply-adds per value: where values are cheap they are many.
WORTH_KEEPING = 128


class Tangents(TorchFunctionMode):
    """Inside a ``forward_ad.dual_level``: convolutions and batch norms by the rules above.

    Args:
        outputs: what the convolutions gave, in order, in a forward pass with the same parameters
            and images, None where it was not kept; by default all are computed.
    """

    def __init__(self, outputs: Sequence[Tensor | None] | None = None) -> None:
        super().__init__()
        self.outputs = None if outputs is None else iter(outputs)

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Apply a rule where there is one."""
        kwargs = kwargs or {}
        if func is torch.conv2d and moves(args[1]):
            return conv2d(None if self.outputs is None else next(self.outputs), *args, **kwargs)
        if func is functional.batch_norm and kwargs["training"] and moves(kwargs["weight"]):
            return batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


class Recording(TorchFunctionMode):
    """Keep what the costly convolutions of a forward pass give, for :class:`Tangents`.

    Batch norm keeps these tensors for its backward pass, so that they cost no memory before that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor | None] = []

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run ``func``, and remember what it gives."""
        result = func(*args, **(kwargs or {}))
        if func is torch.conv2d:
            macs_per_value = args[1][0].numel()
            self.outputs.append(result.detach() if macs_per_value >= WORTH_KEEPING else None)
        return result


def moves(tensor: Tensor | None) -> bool:
    """Whether it has a tangent."""
    return tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None


def conv2d(
    output: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any
) -> Tensor:
    """y = x∗w + b and dy = x∗dw + dx∗w + db; ``output`` is y, if it is known."""
    (x, dx), (w, dw) = forward_ad.unpack_dual(x), forward_ad.unpack_dual(weight)
    b, db = (None, None) if bias is None else forward_ad.unpack_dual(bias)
    y = torch.conv2d(x, w, b, *geometry) if output is None else output
    dy = torch.conv2d(x, dw, db, *geometry)
    if dx is not None:  # images do not move
        dy += torch.conv2d(dx, w, None, *geometry)
    return forward_ad.make_dual(y, dy)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *,
    weight: Tensor,
    bias: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """y = x̂w + b with the batch's statistics, and its tangent; the running ones are left alone."""
    (x, dx), (w, dw), (b, db) = map(forward_ad.unpack_dual, (x, weight, bias))
    y, mean, inverse_std = torch.native_batch_norm(x, w, b, None, None, training, momentum, eps)
    dy, *_ = torch.ops.aten.native_batch_norm_backward(
        dx, x, w, None, None, mean, inverse_std, training, eps, [True, False, False]
    )
    scale = (dw * inverse_std).to(x.dtype)  # x̂dw + db = x·scale + (db − mean·scale)
    offset = (db - mean * dw * inverse_std).to(x.dtype)
    dy = dy.add_(offset[:, None, None]).addcmul_(x, scale[:, None, None])
    return forward_ad.make_dual(y, dy)
