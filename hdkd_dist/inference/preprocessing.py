"""From an image to what the network was evaluated on, with Pillow and numpy alone.

Does what the evaluation's loader does: area interpolation of a centre crop. Images that a camera
has stored turned, with a note in the EXIF data, are turned upright first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from hdkd_dist.data.decoding import EVALUATION_CROP, decode_rgb, to_rgb

if TYPE_CHECKING:
    from hdkd_dist.data.manifest import Manifest

CHANNELS = 3


@dataclass(frozen=True)
class Preprocessing:
    """How images become input.

    Attributes:
        size: side of the input in pixels.
        crop: side of the centre crop, as a share of the image's shorter side.
        max_side: longer images are shrunk to this first, as the preparation does; or None.
        mean: per channel, in 0..1.
        std: per channel, in 0..1.

    Raises:
        ValueError: for values that would give no image, or numbers that are not finite.
    """

    size: int
    crop: float
    max_side: int | None
    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        """Check the values."""
        sides = [self.size] if self.max_side is None else [self.size, self.max_side]
        if not all(isinstance(side, int) and side >= 1 for side in sides):
            raise ValueError(f"size and max_side must be whole numbers from 1 on, not {sides}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop must be above 0 and at most 1, not {self.crop}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != CHANNELS or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} must be {CHANNELS} finite numbers, not {values}")
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, not {self.std}")

    @classmethod
    def of(cls, manifest: Manifest, image_size: int) -> Preprocessing:
        """Take over what the evaluation does with the images of a prepared data set."""
        varying = manifest.image["size"] is None
        return cls(
            size=image_size,
            crop=EVALUATION_CROP if varying else 1.0,
            max_side=manifest.job.get("max_side") if varying else None,
            mean=list(manifest.image["mean"]),
            std=list(manifest.image["std"]),
        )

    def of_file(self, data: bytes) -> np.ndarray:
        """Decode a file's content: [size, size, 3] uint8.

        Raises:
            Exception: whatever Pillow raises, if it is no image.
        """
        return self.of_pixels(np.asarray(decode_rgb(data)))

    def of_image(self, image: Image.Image) -> np.ndarray:
        """Convert a Pillow image: [size, size, 3] uint8, upright."""
        return self.of_pixels(np.asarray(to_rgb(ImageOps.exif_transpose(image))))

    def of_pixels(self, image: np.ndarray) -> np.ndarray:
        """Crop and resize RGB pixels [H, W, 3] uint8: [size, size, 3] uint8."""
        height, width = image.shape[:2]
        if self.max_side and max(height, width) > self.max_side:
            ratio = self.max_side / max(height, width)
            image = area_resize(image, int(ratio * height), int(ratio * width))
            height, width = image.shape[:2]
        side = max(1, int(self.crop * min(height, width)))
        top, left = (height - side) // 2, (width - side) // 2
        square = image[top : top + side, left : left + side]
        return area_resize(square, self.size, self.size)

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Scale pixels as the network has learned them: (x/255 − mean)/std per channel.

        Args:
            pixels: [B, size, size, 3] uint8.

        Returns:
            [B, 3, size, size] float32; in memory the channels stay last.
        """
        mean, std = (np.float32(255) * np.asarray(v, np.float32) for v in (self.mean, self.std))
        return ((pixels.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2)

    def as_json(self) -> dict[str, Any]:
        """Give the fields."""
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
    """Compute what share of each of ``new`` pixels lies in each of ``old`` pixels: [new, old]."""
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
