"""A residual network with exits (He et al. 2015, arXiv 1512.03385, basic blocks).

The second family shows that nothing else in the package knows MSDNet. Its state is one map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from hdkd_dist.models.layers import (
    STEM_HALVINGS,
    Classifier,
    Stem,
    check_fields,
    convolution,
    convolution_norm,
    relu,
    require_poolable,
    stem,
)
from hdkd_dist.models.network import MultiExitNetwork, State


@dataclass(frozen=True)
class ResNetSpec:
    """What there is to choose about a ResNet with exits.

    Attributes:
        blocks: the number of basic blocks in each group; a group halves the side of the one before.
        channels: the width of each group.
        exits: the blocks (1-based, over all groups) behind which there is an exit; the last one
            is the end of the network.
        input_size: the side of the images.
        stem: ``cifar`` keeps the side of the images, ``halving`` halves and ``imagenet`` quarters
            it.
        classifier_channels: the width of the early heads' convolutions; None for their input's.
        num_classes: C.
    """

    blocks: tuple[int, ...]
    channels: tuple[int, ...]
    exits: tuple[int, ...]
    input_size: int
    stem: Stem
    classifier_channels: int | None
    num_classes: int

    def __post_init__(self) -> None:
        """Raise ValueError for values that give no network."""
        check_fields(self)
        if len(self.blocks) != len(self.channels):
            raise ValueError(f"blocks {self.blocks} and channels {self.channels} differ in length")
        if list(self.exits) != sorted(set(self.exits)) or self.exits[-1] != sum(self.blocks):
            raise ValueError(
                f"exits must rise and end at the last block, {sum(self.blocks)}, not {self.exits}"
            )
        require_poolable(self.input_size, STEM_HALVINGS[self.stem] + len(self.blocks) - 1)


def resnet(spec: ResNetSpec) -> MultiExitNetwork:
    """Build the network that ``spec`` describes, with torch's default initialisation.

    An exit in an early group has a strided convolution in its head for each group it skips, so
    that all heads pool a map of the same side; the last head is ResNet's own.
    """
    width = spec.channels[0]
    number = 0
    stage: list[nn.Module] = [stem(spec.stem, width, math.gcd(*spec.channels))]
    stages: list[nn.Module] = []
    classifiers: list[nn.Module] = []
    for group, (blocks, channels) in enumerate(zip(spec.blocks, spec.channels, strict=True)):
        for block in range(blocks):
            number += 1
            stage.append(BasicBlock(width, channels, stride=2 if group and not block else 1))
            width = channels
            if number in spec.exits:
                skipped = len(spec.blocks) - 1 - group
                stages.append(Stage(*stage))
                classifiers.append(
                    Classifier(width, spec.num_classes, skipped, spec.classifier_channels)
                )
                stage = []
    return MultiExitNetwork(stages, classifiers)


class Stage(nn.Sequential):
    """Modules in a row, as a map from state to state."""

    def forward(self, state: State) -> State:
        """Give a state of one map."""
        (features,) = state
        return [super().forward(features)]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around which the input is carried, by a 1×1 one where shapes differ."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            convolution(in_channels, out_channels, kernel=3, stride=stride),
            convolution_norm(out_channels, out_channels, kernel=3),
        )
        same_shape = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity()
            if same_shape
            else convolution_norm(in_channels, out_channels, kernel=1, stride=stride)
        )
        self.relu = relu()

    def forward(self, features: Tensor) -> Tensor:
        """Give ``[B, out_channels, ...]``."""
        return self.relu(self.shortcut(features) + self.residual(features))
