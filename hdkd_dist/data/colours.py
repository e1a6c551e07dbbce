"""RandAugment and colour jitter as functions of (seed, epoch, sample), by Pillow.

RandAugment (Cubuk et al. 2020) applies N operations of its list one after the other, drawn with
replacement, all with the magnitude M, of which 30 is the most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from hdkd_dist.data.augment import COLOUR_JITTER, RANDAUGMENT, Augmentation, uniform

MOST = 30  # M at which an operation is strongest
# The strongest changes.
SHEAR = 0.3  # columns per row
MOVE = 150 / 331  # of the side
DEGREES = 30.0
ENHANCE = 0.9  # around 1
BITS = 4  # that posterising takes away

# An operation: an image, strength −1…1 → an image. Where a sign says nothing it is ignored.
Operation: TypeAlias = Callable[[Image.Image, float], Image.Image]


def move(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Take each pixel (x, y) from (ax + by + c, dx + ey + f), black outside."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    """Return the operation that changes one property by up to ``ENHANCE``."""
    return lambda image, strength: kind(image).enhance(1 + ENHANCE * strength)


OPERATIONS: dict[str, Operation] = {
    "identity": lambda image, _: image,
    "shear_x": lambda image, s: move(image, (1, SHEAR * s, 0, 0, 1, 0)),
    "shear_y": lambda image, s: move(image, (1, 0, 0, SHEAR * s, 1, 0)),
    "translate_x": lambda image, s: move(image, (1, 0, int(MOVE * image.width * s), 0, 1, 0)),
    "translate_y": lambda image, s: move(image, (1, 0, 0, 0, 1, int(MOVE * image.height * s))),
    "rotate": lambda image, s: image.rotate(DEGREES * s),
    "brightness": enhance(ImageEnhance.Brightness),
    "colour": enhance(ImageEnhance.Color),
    "contrast": enhance(ImageEnhance.Contrast),
    "sharpness": enhance(ImageEnhance.Sharpness),
    "posterise": lambda image, s: ImageOps.posterize(image, 8 - round(BITS * abs(s))),
    "solarise": lambda image, s: ImageOps.solarize(image, round(256 * (1 - abs(s)))),
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalise": lambda image, _: ImageOps.equalize(image),
}
JITTERED: tuple[Callable[[Image.Image], ImageEnhance._Enhance], ...] = (
    ImageEnhance.Brightness,
    ImageEnhance.Contrast,
    ImageEnhance.Color,
)


def change_colours(
    pixels: np.ndarray, augmentation: Augmentation, seed: int, epoch: int, sample: int
) -> np.ndarray:
    """Apply RandAugment and colour jitter to one image, as far as they are asked for.

    Args:
        pixels: [H, W, 3] uint8.
        augmentation: how much of both.
        seed, epoch, sample: what the random choices depend on, and nothing else.

    Returns:
        [H, W, 3] uint8.
    """
    image = Image.fromarray(pixels)
    with np.errstate(over="ignore"):  # as the mixing of bits wants it
        if augmentation.randaugment is not None:
            drawn = draw_operations(augmentation.randaugment_operations, seed, epoch, sample)
            for name, sign in drawn:
                image = OPERATIONS[name](image, sign * augmentation.randaugment / MOST)
        for number, kind in enumerate(JITTERED):
            if augmentation.colour_jitter:
                draw = 2 * uniform(seed, epoch, sample, COLOUR_JITTER + number) - 1
                image = kind(image).enhance(1 + augmentation.colour_jitter * float(draw))
    return np.asarray(image)


def draw_operations(number: int, seed: int, epoch: int, sample: int) -> list[tuple[str, int]]:
    """Draw a sample's operations of RandAugment and their signs, in order."""
    names = list(OPERATIONS)
    drawn = []
    for place in range(number):
        choice = uniform(seed, epoch, sample, RANDAUGMENT + 2 * place)
        sign = uniform(seed, epoch, sample, RANDAUGMENT + 2 * place + 1)
        drawn.append((names[int(choice * len(names))], 1 if sign < 0.5 else -1))
    return drawn
