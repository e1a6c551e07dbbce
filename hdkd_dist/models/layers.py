"""The building blocks that both families share."""

from __future__ import annotations

from typing import Literal

from torch import nn

Stem = Literal["cifar", "imagenet"]

STEM_HALVINGS: dict[str, int] = {"cifar": 0, "imagenet": 2}
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


def relu() -> nn.ReLU:
    """In place: neither batch norm nor a sum needs its own output for the backward pass."""
    return nn.ReLU(inplace=True)


def stem(kind: Stem, channels: int) -> nn.Sequential:
    """From images to the first feature map.

    ``cifar`` keeps the side (3×3 convolution); ``imagenet`` quarters it (7×7 convolution with
    stride 2, then 3×3 max-pooling with stride 2).
    """
    if kind == "cifar":
        return convolution(3, channels, kernel=3)
    return nn.Sequential(
        convolution(3, channels, kernel=7, stride=2),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )


def halved(side: int, times: int) -> int:
    """Return the side of a map after ``times`` strided layers, each of which rounds up."""
    for _ in range(times):
        side = (side + 1) // 2
    return side
