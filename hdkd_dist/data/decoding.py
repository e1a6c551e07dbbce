"""Image files to RGB, whatever they hold."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

EVALUATION_CROP = 224 / 256
"""The centre crop that is evaluated, of the shorter side, where images have different sizes."""

# What is decoded. EPS is not among them: Pillow would start Ghostscript on a stranger's program.
WANTED = (
    *("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "PCX", "TGA", "QOI"),
    *("JPEG2000", "AVIF"),
)
Image.init()
FORMATS = tuple(name for name in WANTED if name in Image.OPEN)  # AVIF came with Pillow 11.3

MAX_PIXELS = 1 << 26  # 8192 × 8192: 200 MB as RGB
SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112  # EXIF's tag: how a camera was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_rgb(data: bytes) -> Image.Image:
    """Decode an image file to upright 8-bit RGB, by content and not by its name.

    Grayscale, palette, CMYK, transparency and 16-bit grayscale are converted; the orientation that
    a camera has noted in EXIF is undone. Truncated or foreign data raises one of Pillow's many
    exceptions.

    Raises:
        ValueError: more than ``MAX_PIXELS``, or pixels whose range is not known.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on odd metadata, which does not matter here
        image = open_image(data)
        turn = UPRIGHT.get(orientation_of(image))
        rgb = to_rgb(image)
        rgb.info.clear()  # nobody shall turn it again
        return rgb if turn is None else rgb.transpose(turn)


def open_image(data: bytes) -> Image.Image:
    """Read an image's header; nothing is decoded yet. Raises as :func:`decode_rgb` does."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}×{height} pixels are more than the {MAX_PIXELS:,} that are read")
    return image


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1, upright, where there is none or it is damaged."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow raises nearly anything on bad metadata
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB; ``ValueError`` for pixels whose range only their author knows."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range: use 8 bits")
    if image.mode in SIXTEEN_BITS:  # Pillow would clip these to white
        values = np.asarray(image).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
            raise ValueError("its pixels are 32-bit numbers of unknown range: use 8 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
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
            image = open_image(data)
            width, height = image.size
            image.draft(image.mode, (1, 1))
            to_rgb(image)
    except Image.UnidentifiedImageError:  # its own text names an object in memory
        return "it is no image in a format that is read"
    except Exception as error:  # Pillow raises nearly anything on bad data
        return str(error) or type(error).__name__
    longest = max(width, height)
    shrinking = max_side / longest if max_side and longest > max_side else 1.0
    # Rounded as FFCV does when it stores the image and when it crops it for an evaluation.
    if int(EVALUATION_CROP * int(shrinking * min(width, height))) < 1:
        shrunk = f" shrunk to {max_side}" if shrinking < 1 else ""
        return f"{width}×{height} pixels{shrunk} are too few"
    return None
