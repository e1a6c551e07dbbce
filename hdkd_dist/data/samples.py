"""What a split is made of, before it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

WRITE_MODES = ("raw", "jpg", "proportion")
# An image, [H,W,3] uint8 or a PIL image in RGB, and its label.
Sample: TypeAlias = "tuple[np.ndarray | Image.Image, int]"


@dataclass(frozen=True)
class FieldOptions:
    """How images are stored.

    Attributes:
        write_mode: ``"raw"`` pixels, ``"jpg"``, or ``"proportion"``: JPEG for a part of the images.
        max_side: larger images are shrunk to this longer side; None keeps all sizes.
        quality: of the JPEGs.
        proportion: the part stored as JPEG under ``"proportion"``, drawn per image and seeded.
    """

    write_mode: str = "raw"
    max_side: int | None = None
    quality: int = 90
    proportion: float = 0.5

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for what cannot be stored so."""
        if self.write_mode not in WRITE_MODES:
            modes = ", ".join(WRITE_MODES)
            raise ValueError(f"--write_mode is {self.write_mode!r}: choose one of {modes}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality is {self.quality!r}: it must be from 1 to 100")
        if not isinstance(self.proportion, int | float) or not 0 <= self.proportion <= 1:
            raise ValueError(f"--proportion is {self.proportion!r}: it must be from 0 to 1")


class ArraySamples:
    """Part of a data set that is held in memory as one array."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, positions: Sequence[int] | np.ndarray
    ) -> None:
        """Take ``positions`` out of ``images`` [N,H,W,3] uint8 and ``labels`` [N]."""
        self.images = images
        self.labels = labels
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        position = self.positions[index]
        return self.images[position], int(self.labels[position])
