"""From stored pixels to what a network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalize:
    """(x/255 − mean)/std per channel, on the device of the images."""

    mean: Tensor  # [3, 1, 1], in units of 0..255
    std: Tensor  # [3, 1, 1], in units of 0..255

    @classmethod
    def of(
        cls, mean: Sequence[float], std: Sequence[float], device: torch.device | str
    ) -> Normalize:
        """From mean and standard deviation in units of 0..1."""
        as_pixels = 255 * torch.tensor([mean, std], device=device).view(2, 3, 1, 1)
        return cls(*as_pixels)

    def __call__(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] uint8 → float32, channels last in memory, as networks mostly like it."""
        images = images.to(torch.float32, memory_format=torch.channels_last)
        return (images - self.mean) / self.std
