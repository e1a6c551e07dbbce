"""The building blocks that both families share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

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


def merged_convolution_norm(in_channels: int, parts: Sequence[int]) -> nn.Sequential:
    """1×1 convolutions of the same input, and batch norm; the outputs in a row."""
    return nn.Sequential(MergedConv2d(in_channels, parts), nn.BatchNorm2d(sum(parts)))


def relu() -> nn.ReLU:
    """In place: neither batch norm nor a sum needs its own output for the backward pass."""
    return nn.ReLU(inplace=True)


CACHE_LINE = 16  # numbers in float32


@torch.compiler.assume_constant_result
def threads() -> int:
    """Return on how many threads torch computes; asking torch itself would end a compiled graph."""
    return torch.get_num_threads()


class FasterFormat(nn.Sequential):
    """Modules in a row that get their input in the memory format in which the network is faster.

    What follows keeps it. That is channels last, in which convolutions of few channels are faster,
    but for two cases, both on a CPU (measured: docs/measurements.md): a single image; and training
    on several threads, where batch norm's backward pass adds up each thread's share of a channel
    in memory that the threads have in common unless the channels fill whole lines of the cache.

    Args:
        modules: the first is given the images.
        divisor: of the numbers of channels of the network's maps.
    """

    def __init__(self, *modules: nn.Module, divisor: int) -> None:
        super().__init__(*modules)
        self.divisor = divisor

    def forward(self, images: Tensor) -> Tensor:
        """Give the output of the last module."""
        channels_first = images.device.type == "cpu" and (
            images.shape[0] == 1  # len() would fix the batch of an export
            or (self.training and self.divisor % CACHE_LINE and threads() > 1)
        )
        layout = torch.contiguous_format if channels_first else torch.channels_last
        return super().forward(images.contiguous(memory_format=layout))


def stem(kind: Stem, channels: int, divisor: int) -> nn.Sequential:
    """From images to the first feature map.

    ``cifar`` keeps the side (3×3 convolution); ``halving`` halves it (the same with stride 2);
    ``imagenet`` quarters it (7×7 convolution with stride 2, then 3×3 max-pooling with stride 2).

    Args:
        kind: see above.
        channels: of the first map.
        divisor: of the numbers of channels of all maps.
    """
    if kind != "imagenet":
        layer = convolution(3, channels, kernel=3, stride=2 ** STEM_HALVINGS[kind])
        return FasterFormat(*layer, divisor=divisor)
    return FasterFormat(
        convolution(3, channels, kernel=7, stride=2),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        divisor=divisor,
    )


def halved(side: int, times: int) -> int:
    """Return the side of a map after ``times`` strided layers, each of which rounds up."""
    for _ in range(times):
        side = (side + 1) // 2
    return side


SMALLEST_POOLED_SIDE = 2
"""Below 2×2 the head's strided convolutions would read little but their own padding."""


class Classifier(nn.Module):
    """From a feature map ``[B, in_channels, height, width]`` to logits ``[B, num_classes]``.

    Strided 3×3 convolutions, average pooling over the whole map, linear. On the input sizes of
    the MSDNet paper (Huang et al. 2017) two convolutions leave 2×2, so that this pooling is the
    paper's 2×2 pooling; pooling the whole map keeps any larger input possible.

    Args:
        in_channels: the width of the map.
        num_classes: C.
        convolutions: how many convolutions with stride 2.
        channels: their width; None keeps ``in_channels``.
    """

    def __init__(
        self, in_channels: int, num_classes: int, convolutions: int, channels: int | None
    ) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        width = in_channels
        for _ in range(convolutions):
            self.convolutions.append(convolution(width, channels or width, kernel=3, stride=2))
            width = channels or width
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Give the logits."""
        return self.linear(self.convolutions(features).mean(dim=(2, 3)))


def require_poolable(input_size: int, halvings: int) -> None:
    """Refuse an input that ``halvings`` strided layers shrink below what a head can pool.

    Raises:
        ValueError: naming the side that is left.
    """
    side = halved(input_size, halvings)
    if side < SMALLEST_POOLED_SIDE:
        raise ValueError(
            f"an input of {input_size}×{input_size} shrinks to {side}×{side} before the "
            f"classifiers' pooling, which needs at least "
            f"{SMALLEST_POOLED_SIDE}×{SMALLEST_POOLED_SIDE}: take a larger input_size or fewer "
            f"scales or groups"
        )


def check_fields(spec: Any) -> None:
    """Check each field of the dataclass ``spec`` against the rule for its annotated type.

    Raises:
        ValueError: naming the field, what it must be and what it is.
    """
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        holds, wording = _RULES[str(field.type)]
        if not holds(value):
            raise ValueError(f"{field.name} must be {wording}, not {value!r}")


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_positive(value: object) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(map(_is_positive, value))


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _one_of(names: Sequence[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}"


_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "int": (_is_positive, "a positive integer"),
    "int | None": (
        lambda value: value is None or _is_positive(value),
        "a positive integer or none",
    ),
    "tuple[int, ...]": (_are_positive, "a list of positive integers"),
    "float": (_is_share, "a number above 0 and at most 1"),
    "Stem": (lambda value: value in get_args(Stem), _one_of(get_args(Stem))),
}
