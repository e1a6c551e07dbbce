"""Forward-mode derivatives of networks: exact or refused, at a lower cost than torch's own.

:func:`pushforward` moves the parameters along a direction. Most functions are differentiated by
torch itself; some, the costly ones among them, by :mod:`tangent_rules`.

What reverse mode takes for a constant is one here: ``detach()``, ``.data``, and whatever a module
computes under ``torch.no_grad()``, through which torch's own forward mode would differentiate.

Functions that draw random numbers (dropout, stochastic depth) are differentiated for the numbers
drawn in this pass; when a recorded pass is repeated (:mod:`recording`), for those that it drew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

# torch loads these rules at the first use of a function that needs them. Up to Python 3.11.7 that
# fails when another thread, a reader's compiler for one, parses source code at the same time
# (https://github.com/python/cpython/issues/106905). So they are loaded here, by the first thread.
import torch._decomp.decompositions_for_jvp
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from hdkd_dist.method.tangent_rules import RULES, batch_norm, cat, constant, conv2d, other_path


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
    with torch.enable_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        moving = {n: forward_ad.make_dual(value.detach(), v[n]) for n, value in theta.items()}
        with Tangents():
            output = function(moving)
        value, tangent = forward_ad.unpack_dual(output)
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
    """Inside a ``forward_ad.dual_level``: the rules of :mod:`tangent_rules`, otherwise torch's own.

    Args:
        known: for the functions that take over what an earlier pass has computed, at the same
            parameters, images and random numbers: what they found, in order, None where that is
            not known; by default all is computed.
    """

    def __init__(self, known: Known | None = None) -> None:
        super().__init__()
        self.known = known
        self.calls = dict.fromkeys(TAKING_OVER, 0)

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Apply a rule where there is one."""
        kwargs = kwargs or {}
        found = self.next_found(func) if func in TAKING_OVER else None
        if not torch.is_grad_enabled():
            return constant(func, args, kwargs)
        if func in TAKING_OVER:
            rule: Callable = partial(TAKING_OVER[func], found)
        elif func in RULES:
            rule = RULES[func]
        else:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():  # no mode around this one need look at a rule's steps
            return rule(*args, **kwargs)

    def next_found(self, func: Callable) -> Any:
        """Take what the next call of ``func`` found, if that is known."""
        self.calls[func] += 1
        if self.known is None:
            return None
        if self.calls[func] > len(self.known[func]):
            raise other_path(f"more {NAMES[func]} than the {len(self.known[func])} recorded")
        return self.known[func][self.calls[func] - 1]

    def check_complete(self) -> None:
        """Make sure that all that is known has been taken over.

        Raises:
            ValueError: if some has not.
        """
        for func, found in (self.known or {}).items():
            if self.calls[func] < len(found):
                raise other_path(f"{self.calls[func]} {NAMES[func]}, not {len(found)} as recorded")


Known = Mapping[Callable, Sequence[Any]]
TAKING_OVER: dict[Callable, Callable] = {
    torch.conv2d: conv2d,
    functional.batch_norm: batch_norm,
    torch.cat: cat,
}
NAMES: dict[Callable, str] = {
    torch.conv2d: "convolutions",
    functional.batch_norm: "batch norms",
    torch.cat: "concatenations",
}
