"""Image files to RGB, whatever they hold."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from hdkd_dist.data.normalize import EVALUATION_CROP

SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def decode_rgb(data: bytes) -> Image.Image:
    """Decode an image file to 8-bit RGB, by content and not by its name.

    Grayscale, palette, CMYK, transparency and 16-bit grayscale are converted. Truncated or foreign
    data raises one of Pillow's many exceptions.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd metadata, which does not matter here
        return to_rgb(Image.open(io.BytesIO(data)))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB."""
    if image.mode in SIXTEEN_BITS:  # Pillow would clip these to white
        values = np.asarray(image).astype(np.int64).clip(0, 0xFFFF) >> 8
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.mode == "P":  # may hold transparency that does not convert directly
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def find_fault(data: bytes, max_side: int | None) -> str | None:
    """Return why an image cannot be used once it is stored with ``max_side`` pixels, or None.

    All of it is decoded, but at the lowest scale that JPEG offers: that finds truncation in about
    half the time.
    """
    if not data:
        return "there is nothing in it"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            width, height = image.size
            image.draft(image.mode, (1, 1))
            to_rgb(image)
    except Exception as error:  # Pillow raises nearly anything on bad data
        return str(error) or type(error).__name__
    longest = max(width, height)
    shrinking = max_side / longest if max_side and longest > max_side else 1.0
    # Rounded as FFCV does when it stores the image and when it crops it for an evaluation.
    if int(EVALUATION_CROP * int(shrinking * min(width, height))) < 1:
        shrunk = f" shrunk to {max_side}" if shrinking < 1 else ""
        return f"{width}×{height} pixels{shrunk} are too few"
    return None
