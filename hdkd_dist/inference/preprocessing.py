"""From an image file to what the network was evaluated on, with Pillow and numpy alone.

Does what the evaluation's loader does: area interpolation of a centre crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdkd_dist.data.decoding import EVALUATION_CROP, decode_rgb
from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.normalize import Normalize


@dataclass(frozen=True)
class Preprocessing:
    """How images become input.

    Attributes:
        size: side of the input in pixels.
        crop: side of the centre crop, as a share of the image's shorter side.
        max_side: longer images are shrunk to this first, as the preparation does; or None.
        mean: per channel, in 0..1.
        std: per channel, in 0..1.
    """

    size: int
    crop: float
    max_side: int | None
    mean: list[float]
    std: list[float]

    @classmethod
    def of(cls, manifest: Manifest, image_size: int) -> Preprocessing:
        """What the evaluation does with the images of a prepared data set."""
        varying = manifest.image["size"] is None
        return cls(
            size=image_size,
            crop=EVALUATION_CROP if varying else 1.0,
            max_side=manifest.job.get("max_side") if varying else None,
            mean=list(manifest.image["mean"]),
            std=list(manifest.image["std"]),
        )

    def pixels(self, data: bytes) -> Tensor:
        """Decode a file's content: [3, size, size] uint8.

        Raises:
            Exception: whatever Pillow raises, if it is no image.
        """
        image = np.array(decode_rgb(data))
        height, width = image.shape[:2]
        if self.max_side and max(height, width) > self.max_side:
            ratio = self.max_side / max(height, width)
            image = area_resize(image, int(ratio * height), int(ratio * width))
            height, width = image.shape[:2]
        side = max(1, int(self.crop * min(height, width)))
        top, left = (height - side) // 2, (width - side) // 2
        square = image[top : top + side, left : left + side]
        return torch.from_numpy(area_resize(square, self.size, self.size)).permute(2, 0, 1)

    def normalize(self, device: torch.device | str) -> Normalize:
        """The last step, [B, 3, size, size] uint8 → float32, on a device."""
        return Normalize.of(self.mean, self.std, device)

    def as_json(self) -> dict[str, Any]:
        """The fields."""
        return dict(vars(self))


def area_resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize [H, W, 3] uint8 to [height, width, 3]: each pixel is the mean of the area it covers.

    OpenCV's INTER_AREA; Pillow's box filter differs where an image grows.
    """
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    rows, columns = (
        area_weights(old, new) for old, new in zip(image.shape, (height, width), strict=False)
    )
    channels = image.transpose(2, 0, 1).astype(np.float32)
    resized = rows @ channels @ columns.T
    return np.rint(resized.transpose(1, 2, 0)).clip(0, 255).astype(np.uint8)


def area_weights(old: int, new: int) -> np.ndarray:
    """What share of each of ``new`` pixels lies in each of ``old`` pixels: [new, old]."""
    places = np.arange(new)[:, None]
    sources = np.arange(old)
    if new > old:  # a new pixel touches at most two; rounding at their edges is OpenCV's, too
        growth = new / old
        source = np.floor(places * (1 / growth))
        following = (places + 1) - (source + 1) * growth
        following = np.where(following <= 0, 0, following - np.floor(following))
        weights = (sources == source) * (1 - following) + (sources == source + 1) * following
        weights[:, -1] += 1 - weights.sum(axis=1)  # what would lie outside
        return weights.astype(np.float32)
    scale = old / new
    ends = np.minimum((places + 1) * scale, sources + 1)
    weights = np.clip(ends - np.maximum(places * scale, sources), 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
