"""What each exit costs: multiply-adds of one image, and parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from hdkd_dist.models.network import MultiExitNetwork


@dataclass(frozen=True)
class ExitCosts:
    """Costs per exit, each with those of all exits before it, which run on the way.

    Attributes:
        mmac: millions of multiply-adds for one image to leave at the exit.
        params: the parameters that must be there to reach the exit.
    """

    mmac: list[float]
    params: list[int]


def exit_costs(network: MultiExitNetwork, input_size: int) -> ExitCosts:
    """Count the costs of ``network`` on images of side ``input_size``, without computing anything.

    As in the MSDNet paper (Huang et al. 2017): convolutions and linear layers count their
    multiply-adds, a ReLU one per element, pooling one per element of each window; batch norm
    is free, for it can be folded into the convolution before it.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    state = [torch.empty(1, 3, input_size, input_size, device="meta")]
    mmac, params, present = [], [], 0
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_OPERATIONS) as counter:
        for k in range(shadow.num_exits):
            state, _ = shadow.run_stage(k, state)
            mmac.append(counter.get_total_flops() / 2 / 1e6)
            present += _count(shadow.stages[k]) + _count(shadow.classifiers[k])
            params.append(present)
    return ExitCosts(mmac, params)


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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
