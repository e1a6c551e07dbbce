"""What each exit costs: multiply-adds of one image, and parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from hdkd_dist.models.network import staged


@dataclass(frozen=True)
class ExitCosts:
    """Costs per exit, each with those of all exits before it, which run on the way.

    Attributes:
        mmac: millions of multiply-adds for one image to leave at the exit.
        params: the parameters that must be there to reach the exit.
        uncounted: operations of the network that do much work and count as none, by name.
    """

    mmac: list[float]
    params: list[int]
    uncounted: tuple[str, ...] = ()


def exit_costs(network: nn.Module, input_size: int) -> ExitCosts:
    """Count the costs of ``network`` on images of side ``input_size``.

    As in the MSDNet paper (Huang et al. 2017): convolutions, linear layers and the products of
    attention count their multiply-adds, a ReLU one per element, pooling one per element of each
    window; batch norm is free, for it can be folded into the convolution before it, and so is
    what else works element by element. Nothing is computed, unless the network cannot run on the
    meta device. A network that does not run stage by stage costs the same at every exit.

    Args:
        network: with exits, see :class:`hdkd_dist.models.network.MultiExit`; is the same after
            the call.
        input_size: pixels.
    """
    try:
        return _count_on("meta", network, input_size)
    except (RuntimeError, NotImplementedError):  # a tensor of its own on another device
        return _count_on("cpu", network, input_size)


def _count_on(device: str, network: nn.Module, input_size: int) -> ExitCosts:
    shadow = copy.deepcopy(network).to(device).eval()
    stages = staged(shadow)
    needed: dict[nn.Parameter, int] = {}  # parameter → the exit that first needs it
    mmac: list[float] = []

    def note(module: nn.Module, _: object) -> None:
        for parameter in module.parameters():
            needed.setdefault(parameter, len(mmac))

    for module in shadow.modules():
        module.register_forward_pre_hook(note)
    state = [torch.zeros(1, 3, input_size, input_size, device=device)]
    counter = FlopCounterMode(display=False, custom_mapping=_OPERATIONS)
    other = _Uncounted(counter.flop_registry)
    with torch.no_grad(), _plain_attention(), counter, other:
        for k in range(stages.num_exits):
            state, _ = stages.run_stage(k, state)
            mmac.append(counter.get_total_flops() / 2 / 1e6)
    # What no module's forward has used belongs to the network as a whole.
    first = [(parameter.numel(), needed.get(parameter, 0)) for parameter in shadow.parameters()]
    params = [sum(size for size, exit_ in first if exit_ <= k) for k in range(stages.num_exits)]
    return ExitCosts(mmac, params, tuple(sorted(other.names)))


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Within, attention is made of products that can be counted, and of no fused kernel."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Uncounted(TorchDispatchMode):
    """Note operations that do much work and have no formula.

    Those are recurrent layers, Fourier transforms, and whatever is not torch's own.

    Args:
        counted: the operations with a formula.
    """

    def __init__(self, counted: Mapping[Any, object]) -> None:
        super().__init__()
        self.counted = counted
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        namespace, name = func.name().split("::")
        foreign = namespace not in ("aten", "prim")
        if (foreign or "rnn" in name or "fft" in name) and func._overloadpacket not in self.counted:
            self.names.add(func.name().partition(".")[0])
        return func(*args, **(kwargs or {}))


# Formulas for torch's counter: from the shapes of an operation's arguments and of its result. It
# counts a multiply-add as two operations; so do these, and `exit_costs` halves the sum.


def _relu(shape: Sequence[int], *_, **__) -> int:
    return 2 * math.prod(shape)


def _global_average(shape: Sequence[int], *_, **__) -> int:
    return 2 * math.prod(shape)


def _max_pool(_: object, kernel: Sequence[int], *__, out_shape: Sequence, **___) -> int:
    pooled, *_indices = out_shape
    return 2 * math.prod(pooled) * math.prod(kernel)


_OPERATIONS = {
    torch.ops.aten.relu: _relu,
    torch.ops.aten.relu_: _relu,
    torch.ops.aten.mean: _global_average,
    torch.ops.aten.max_pool2d_with_indices: _max_pool,
}
