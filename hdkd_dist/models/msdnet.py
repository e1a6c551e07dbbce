"""MSDNet, the multi-scale dense network (Huang et al. 2017, arXiv 1703.09844).

The network is a grid: depth runs to the right, scale runs down, and each scale halves the side of
the one above. A layer concatenates new features to the map of every scale. Classifiers read the
coarsest scale, so that all of them see features of the whole image; the finer scales are there to
feed it, and are dropped from the top, one by one, as the depth that is left no longer needs them.

All widths are a common `width`, times the factor of the scale: with factors 1-2-4 the maps of a
state have width, 2·width and 4·width channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdkd_dist.models.layers import (
    STEM_HALVINGS,
    Classifier,
    Stem,
    check_fields,
    convolution,
    merged_convolution_norm,
    require_poolable,
    stem,
)
from hdkd_dist.models.network import MultiExitNetwork, State

CLASSIFIER_CONVOLUTIONS = 2


@dataclass(frozen=True)
class MSDNetSpec:
    """What there is to choose about an MSDNet.

    Attributes:
        layers_per_block: one block per exit; the number of layers in each.
        channels: the width behind the stem.
        growth: what each layer adds to the width.
        scale_factors: one per scale, finest first; multiplies width, growth and bottleneck.
        input_size: the side of the images.
        stem: ``cifar`` keeps the side of the images, ``halving`` halves and ``imagenet`` quarters
            it.
        classifier_channels: the width of the heads' convolutions; None for their input's.
        num_classes: C.
        reduction: what a transition leaves of the width.
    """

    layers_per_block: tuple[int, ...]
    channels: int
    growth: int
    scale_factors: tuple[int, ...]
    input_size: int
    stem: Stem
    classifier_channels: int | None
    num_classes: int
    reduction: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError for values that give no network."""
        check_fields(self)
        if self.growth < 2:
            raise ValueError("growth must be at least 2: two paths share it")
        halvings = STEM_HALVINGS[self.stem] + len(self.scale_factors) - 1
        require_poolable(self.input_size, halvings + CLASSIFIER_CONVOLUTIONS)


def msdnet(spec: MSDNetSpec) -> MultiExitNetwork:
    """Build the network that ``spec`` describes, with torch's default initialisation."""
    factors = spec.scale_factors
    width = spec.channels
    depth = 0
    stages: list[nn.Module] = []
    classifiers: list[nn.Module] = []
    for block, layers in enumerate(spec.layers_per_block):
        stage: list[nn.Module] = [FirstLayer(spec)] if block == 0 else []
        for _ in range(layers):
            depth += 1
            present, factors = factors, factors[-scales_left(spec, depth) :]
            stage.append(DenseLayer(present, len(factors), width, spec.growth))
            width += spec.growth
            if len(factors) < len(present):
                reduced = max(1, int(width * spec.reduction))
                stage.append(Transition(factors, width, reduced))
                width = reduced
        stages.append(nn.Sequential(*stage))
        classifiers.append(
            Classifier(
                width * factors[-1],
                spec.num_classes,
                CLASSIFIER_CONVOLUTIONS,
                spec.classifier_channels,
            )
        )
    return MultiExitNetwork(stages, classifiers)


def scales_left(spec: MSDNetSpec, depth: int) -> int:
    """Return the number of scales behind layer ``depth`` (1-based): evenly fewer over the depth."""
    scales = len(spec.scale_factors)
    interval = -(-sum(spec.layers_per_block) // scales)
    return scales - (depth - 1) // interval


class FirstLayer(nn.Module):
    """From ``[images]`` to one map per scale, each made from the finer one before it."""

    def __init__(self, spec: MSDNetSpec) -> None:
        super().__init__()
        widths = [spec.channels * factor for factor in spec.scale_factors]
        divisor = math.gcd(spec.channels, spec.growth)
        self.scales = nn.ModuleList([stem(spec.stem, widths[0], divisor)])
        for finer, own in pairwise(widths):
            self.scales.append(convolution(finer, own, kernel=3, stride=2))

    def forward(self, state: State) -> State:
        """Give the first state."""
        maps = state
        for scale in self.scales:
            maps = [*maps, scale(maps[-1])]
        return maps[1:]


class DenseLayer(nn.Module):
    """Add new features to the map of every scale; the finest scale may end here.

    Half of the features come from the map itself, half from the next finer one; the finest map has
    only itself.

    Args:
        factors: the scale factors that come in, finest first.
        kept: how many of them, counted from the coarsest, go on.
        width: the width that comes in.
        growth: what is added to it.
    """

    def __init__(self, factors: Sequence[int], kept: int, width: int, growth: int) -> None:
        super().__init__()
        dropped = len(factors) - kept
        new = [0 if scale < dropped else growth * factor for scale, factor in enumerate(factors)]
        from_finer = [0, *(features // 2 for features in new[1:])]
        self.scales = nn.ModuleList(
            Growth(width, factor, own - finer, for_coarser)
            for factor, own, finer, for_coarser in zip(
                factors, new, from_finer, [*from_finer[1:], 0], strict=True
            )
        )

    def forward(self, state: State) -> State:
        """Give a state of ``kept`` maps."""
        grown = []
        from_finer: list[Tensor] = []
        for scale, own in zip(self.scales, state, strict=True):
            from_own, for_coarser = scale(own)
            if from_own:
                grown.append(torch.cat([own, *from_finer, *from_own], dim=1))
            from_finer = for_coarser
        return grown


class Growth(nn.Module):
    """New features from one map, for itself and for the next coarser one.

    Both are 3×3 convolutions behind 1×1 bottlenecks. The two bottlenecks read the same map and are
    one convolution here, which reads it once; the function is that of two. In training ReLU comes
    after the split: so it writes each part as a whole, where a convolution would copy it into one,
    there and back. Otherwise before: inference runtimes join it to the convolution.

    Args:
        width: of the map, before it is multiplied by ``factor``.
        factor: of the map's scale; a bottleneck is at most this many times as wide as its output.
        own: features for the map itself; 0 for a scale that ends here.
        coarser: features of half the side, for the next coarser map; 0 for the coarsest.
    """

    def __init__(self, width: int, factor: int, own: int, coarser: int) -> None:
        super().__init__()
        channels = width * factor
        self.inner = [min(channels, factor * features) for features in (own, coarser)]
        parts = [width for width in self.inner if width]
        self.bottlenecks = merged_convolution_norm(channels, parts)
        self.own = convolution(self.inner[0], own, kernel=3) if own else None
        self.coarser = convolution(self.inner[1], coarser, kernel=3, stride=2) if coarser else None

    def forward(self, features: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Give the new features for the map and for the coarser one: one tensor each, or none."""
        own, coarser = self.compressed(features)
        return [self.own(own)] if self.own else [], [self.coarser(coarser)] if self.coarser else []

    def compressed(self, features: Tensor) -> Sequence[Tensor]:
        """Give what the two convolutions read; no channels for one that is not there."""
        both = self.bottlenecks(features)
        if not self.training:
            return functional.relu(both, inplace=True).split(self.inner, dim=1)
        parts = both.split(self.inner, dim=1)
        return [functional.relu(part) if part.shape[1] else part for part in parts]


class Transition(nn.Module):
    """Thin out the map of every scale with a 1×1 convolution."""

    def __init__(self, factors: Sequence[int], width: int, reduced: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            convolution(width * factor, reduced * factor, kernel=1) for factor in factors
        )

    def forward(self, state: State) -> State:
        """Give a state of as many, narrower maps."""
        return [scale(own) for scale, own in zip(self.scales, state, strict=True)]
