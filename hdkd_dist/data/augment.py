"""Augmentation as a function of (seed, epoch, sample): what is drawn, whatever reads the images.

These functions know nothing of what runs them: plain Python, with numpy's numbers, or compiled
into FFCV's pipelines. Integers of 64 bits overflow in them on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hdkd_dist.data.manifest import Manifest

# What a draw is for; each sample has one independent number for each.
FLIP, SHIFT_ROWS, SHIFT_COLUMNS, CROP = 0, 1, 2, 3
CROP_ATTEMPTS = 10
CROP_AREA = (0.08, 1.0)  # of the image, as for Inception (Szegedy et al. 2015)
CROP_LOG_ASPECT = (float(np.log(3 / 4)), float(np.log(4 / 3)))
RANDAUGMENT, COLOUR_JITTER = 64, 128  # beyond the draws of a crop


@dataclass(frozen=True)
class Augmentation:
    """Say what training does to images, in this order, after the crop of those that vary in size.

    Attributes:
        translate: pixels by which an image moves at most, in both directions.
        flip: half of the images are mirrored left to right.
        randaugment: magnitude M of RandAugment, 0 to 30; None leaves it out.
        randaugment_operations: N of RandAugment.
        colour_jitter: brightness, contrast and saturation change by up to this share.
    """

    translate: int = 0
    flip: bool = False
    randaugment: int | None = None
    randaugment_operations: int = 2
    colour_jitter: float = 0.0

    @classmethod
    def of(cls, manifest: Manifest, **extra: Any) -> Augmentation:
        """Take what the data set's recipe says, and ``extra`` on request."""
        recipe = manifest.augmentation
        return cls(
            translate=recipe.get("translate", 0),
            flip=recipe.get("flip", False),
            **extra,
        )

    @property
    def changes_colours(self) -> bool:
        """Tell whether :func:`hdkd_dist.data.colours.change_colours` has anything to do."""
        return self.randaugment is not None or self.colour_jitter > 0


def mix(state):
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): each input bit reaches each output bit."""
    state = np.uint64(state) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniform(seed, epoch, sample, draw):
    """Give a number in [0, 1) for each (seed, epoch, sample, draw), the same on every machine."""
    state = mix(mix(mix(mix(seed) ^ np.uint64(epoch)) ^ np.uint64(sample)) ^ np.uint64(draw))
    return np.float64(state >> np.uint64(11)) * (1.0 / 9007199254740992.0)


def is_flipped(seed, epoch, sample):
    """Draw whether a sample is mirrored."""
    return uniform(seed, epoch, sample, FLIP) < 0.5


def shift(seed, epoch, sample, draw, pixels):
    """Draw by how many pixels a sample moves, from −``pixels`` to ``pixels``, each alike."""
    return int(uniform(seed, epoch, sample, draw) * (2 * pixels + 1)) - pixels


def random_crop(seed, epoch, sample, height, width):
    """Draw the random resized crop of a sample: top, left, height, width in pixels.

    Area and aspect ratio are drawn until the crop fits; after ten attempts the largest central
    crop with an allowed aspect ratio is taken.
    """
    for attempt in range(CROP_ATTEMPTS):
        draw = CROP + 4 * attempt
        area = (
            height
            * width
            * (CROP_AREA[0] + uniform(seed, epoch, sample, draw) * (CROP_AREA[1] - CROP_AREA[0]))
        )
        span = CROP_LOG_ASPECT[1] - CROP_LOG_ASPECT[0]
        aspect = np.exp(CROP_LOG_ASPECT[0] + uniform(seed, epoch, sample, draw + 1) * span)
        w = int(np.round(np.sqrt(area * aspect)))
        h = int(np.round(np.sqrt(area / aspect)))
        if 0 < w <= width and 0 < h <= height:
            top = int(uniform(seed, epoch, sample, draw + 2) * (height - h + 1))
            left = int(uniform(seed, epoch, sample, draw + 3) * (width - w + 1))
            return top, left, h, w
    w = min(width, int(np.round(height * np.exp(CROP_LOG_ASPECT[1]))))
    h = min(height, int(np.round(width / np.exp(CROP_LOG_ASPECT[0]))))
    return (height - h) // 2, (width - w) // 2, h, w


def central_crop(share, height, width):
    """Return the central square of ``share`` of the shorter side: top, left, height, width."""
    side = int(share * min(height, width))
    return (height - side) // 2, (width - side) // 2, side, side
