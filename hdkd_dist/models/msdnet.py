"""MSDNet, the multi-scale dense network (Huang et al. 2017, arXiv 1703.09844).

The network is a grid: depth runs to the right, scale runs down, and each scale halves the side of
the one above. A layer concatenates new features to the map of every scale. Classifiers read the
coarsest scale, so that all of them see features of the whole image; the finer scales are there to
feed it, and are dropped from the top, one by one, as the depth that is left no longer needs them.

All widths are a common `width`, times the factor of the scale: with factors 1-2-4 the maps of a
state have width, 2·width and 4·width channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from hdkd_dist.models.checks import check_fields
from hdkd_dist.models.classifier import Classifier, require_poolable
from hdkd_dist.models.layers import STEM_HALVINGS, Stem, convolution, stem
from hdkd_dist.models.network import MultiExitNetwork, State

CLASSIFIER_CONVOLUTIONS = 2

T = TypeVar("T")


@dataclass(frozen=True)
class MSDNetSpec:
    """What there is to choose about an MSDNet.

    Attributes:
        layers_per_block: one block per exit; the number of layers in each.
        channels: the width behind the stem.
        growth: what each layer adds to the width.
        scale_factors: one per scale, finest first; multiplies width, growth and bottleneck.
        input_size: the side of the images.
        stem: ``cifar`` keeps the side of the images, ``imagenet`` quarters it.
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
        self.scales = nn.ModuleList([stem(spec.stem, widths[0])])
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

    Args:
        factors: the scale factors that come in, finest first.
        kept: how many of them, counted from the coarsest, go on.
        width: the width that comes in.
        growth: what is added to it.
    """

    def __init__(self, factors: Sequence[int], kept: int, width: int, growth: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            Growth(factor, finer, width, growth) for factor, finer in with_finer(factors)[-kept:]
        )

    def forward(self, state: State) -> State:
        """Give a state of ``kept`` maps."""
        kept = with_finer(state)[-len(self.scales) :]
        return [scale(own, finer) for scale, (own, finer) in zip(self.scales, kept, strict=True)]


class Growth(nn.Module):
    """Concatenate a map with features computed from it and, if there is one, from the finer map."""

    def __init__(self, factor: int, finer_factor: int | None, width: int, growth: int) -> None:
        super().__init__()
        new = growth * factor
        self.from_finer = None
        if finer_factor is not None:
            half = new // 2
            new -= half
            self.from_finer = bottlenecked(width * finer_factor, half, finer_factor, stride=2)
        self.from_own = bottlenecked(width * factor, new, factor, stride=1)

    def forward(self, own: Tensor, finer: Tensor | None) -> Tensor:
        """Give ``own`` with ``growth`` times ``factor`` more channels."""
        if self.from_finer is None:
            return torch.cat([own, self.from_own(own)], dim=1)
        return torch.cat([own, self.from_finer(finer), self.from_own(own)], dim=1)


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


def bottlenecked(in_channels: int, out_channels: int, factor: int, stride: int) -> nn.Sequential:
    """3×3 convolution behind a 1×1 one that caps its input at ``factor`` times its output."""
    inner = min(in_channels, factor * out_channels)
    return nn.Sequential(
        convolution(in_channels, inner, kernel=1),
        convolution(inner, out_channels, kernel=3, stride=stride),
    )


def with_finer(scales: Sequence[T]) -> list[tuple[T, T | None]]:
    """Pair what belongs to each scale with what belongs to the next finer one, None for the first.

    >>> with_finer([1, 2, 4])
    [(1, None), (2, 1), (4, 2)]
    """
    return list(zip(scales, [None, *scales[:-1]], strict=True))
