"""MSDNet as one would first write it, to compare with: each bottleneck a convolution of its own.

The project's MSDNet computes the same function with fewer, larger convolutions, in the memory
format that suits them.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from hdkd_dist.models import MultiExitNetwork
from hdkd_dist.models.layers import FasterFormat, relu
from hdkd_dist.models.msdnet import DenseLayer, Growth
from hdkd_dist.models.network import State


def plain_formulation(network: MultiExitNetwork) -> MultiExitNetwork:
    """The same network, weights included, with separate bottlenecks and channels first."""
    network = copy.deepcopy(network)
    for stage in network.stages:
        for name, layer in stage.named_children():
            if isinstance(layer, DenseLayer):
                setattr(stage, name, PlainDenseLayer(layer))
    return with_format_kept(network)


def with_format_kept(network: MultiExitNetwork) -> MultiExitNetwork:
    """Let the feature maps of a network have the memory format of the images, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, FasterFormat):
                setattr(module, name, nn.Sequential(*child))
    return network


class PlainDenseLayer(nn.Module):
    """Concatenate each map with what its own path and that from the finer map compute."""

    def __init__(self, layer: DenseLayer) -> None:
        super().__init__()
        scales: list[Growth] = list(layer.scales)
        self.from_own = nn.ModuleList(path(scale, 0) for scale in scales if scale.own)
        self.from_finer = nn.ModuleList(path(scale, 1) for scale in scales if scale.coarser)

    def forward(self, state: State) -> State:
        """Give a state of as many maps as there are paths from an own map."""
        finer: list[list[Tensor]] = [
            [path(map_)] for path, map_ in zip(self.from_finer, state[:-1], strict=True)
        ]
        kept = len(self.from_own)
        return [
            torch.cat([own, *half, path(own)], dim=1)
            for path, own, half in zip(
                self.from_own, state[-kept:], ([[], *finer])[-kept:], strict=True
            )
        ]


def path(growth: Growth, part: int) -> nn.Sequential:
    """A bottleneck of its own and the 3×3 convolution behind it; ``part`` is its place."""
    merged, norm = growth.bottlenecks
    ends = [0, *torch.tensor(growth.inner).cumsum(0).tolist()]
    first, last = list(pairwise(ends))[part]
    conv = nn.Conv2d(merged.in_channels, last - first, kernel_size=1, bias=False)
    conv.weight = part_of(merged.weight, first, last)
    own_norm = nn.BatchNorm2d(last - first, norm.eps, norm.momentum)
    own_norm.weight = part_of(norm.weight, first, last)
    own_norm.bias = part_of(norm.bias, first, last)
    own_norm.running_mean = norm.running_mean[first:last].clone()
    own_norm.running_var = norm.running_var[first:last].clone()
    outer = growth.own if part == 0 else growth.coarser
    return nn.Sequential(nn.Sequential(conv, own_norm, relu()), outer)


def part_of(parameter: Tensor, first: int, last: int) -> nn.Parameter:
    return nn.Parameter(parameter.detach()[first:last].clone())
