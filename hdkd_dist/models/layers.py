"""The building blocks that both families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Stem = Literal["cifar", "halving", "imagenet"]

STEM_HALVINGS: dict[str, int] = {"cifar": 0, "halving": 1, "imagenet": 2}
"""How often each kind of stem halves the side of its input."""


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the side is kept, or halved and rounded up with stride 2."""
    return nn.Sequential(*convolution_norm(in_channels, out_channels, kernel, stride), relu())


def convolution_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1
) -> nn.Sequential:
    """Convolution and batch norm, which makes a bias pointless."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class MergedConv2d(nn.Conv2d):
    """1×1 convolutions of the same input, as one that computes all their outputs.

    Attributes:
        parts: the numbers of output channels of those convolutions; they differ in nothing else.
    """

    def __init__(self, in_channels: int, parts: Sequence[int]) -> None:
        super().__init__(in_channels, sum(parts), kernel_size=1, bias=False)
        self.parts = tuple(parts)


def merged_convolution(in_channels: int, parts: Sequence[int]) -> nn.Sequential:
    """1×1 convolutions of the same input, batch norm, ReLU; the outputs in a row."""
    return nn.Sequential(MergedConv2d(in_channels, parts), nn.BatchNorm2d(sum(parts)), relu())


def relu() -> nn.ReLU:
    """In place: neither batch norm nor a sum needs its own output for the backward pass."""
    return nn.ReLU(inplace=True)


class ChannelsLast(nn.Sequential):
    """Modules in a row that get their input with channels last in memory.

    What follows keeps that format. Convolutions of few channels are faster in it: a training step
    of ``msdnet-cifar-5`` by about a fifth on a CPU.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Give the output of the last module."""
        return super().forward(images.contiguous(memory_format=torch.channels_last))


def stem(kind: Stem, channels: int) -> nn.Sequential:
    """From images to the first feature map.

    ``cifar`` keeps the side (3×3 convolution); ``halving`` halves it (the same with stride 2);
    ``imagenet`` quarters it (7×7 convolution with stride 2, then 3×3 max-pooling with stride 2).
    """
    if kind != "imagenet":
        return ChannelsLast(*convolution(3, channels, kernel=3, stride=2 ** STEM_HALVINGS[kind]))
    return ChannelsLast(
        convolution(3, channels, kernel=7, stride=2),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def halved(side: int, times: int) -> int:
    """Return the side of a map after ``times`` strided layers, each of which rounds up."""
    for _ in range(times):
        side = (side + 1) // 2
    return side
