import io
import os
import subprocess

import numpy as np
import pytest
from ffcv.fields.rgb_image import get_center_crop
from PIL import Image, ImageOps

from hdkd_dist.data.decoding import EVALUATION_CROP, MAX_PIXELS, decode_rgb, find_fault

GRAY = np.random.default_rng(0).integers(0, 256, (11, 13), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (11, 13, 3), np.uint8)


def stored(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(data):
    image = decode_rgb(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def smooth(mode):
    """An image that JPEG changes little."""
    ramp = np.linspace(40, 200, 48, dtype=np.uint8)
    return Image.fromarray(np.broadcast_to(ramp, (48, 48)).copy()).convert(mode)


def test_grayscale_fills_three_channels():
    expected = np.repeat(GRAY[..., None], 3, axis=2)
    assert np.array_equal(pixels(stored(Image.fromarray(GRAY))), expected)


def test_sixteen_bits_are_scaled_not_clipped():
    wide = GRAY.astype(np.uint16) * 257
    assert wide.max() > 60000
    expected = np.repeat(GRAY[..., None], 3, axis=2)
    assert np.array_equal(pixels(stored(Image.fromarray(wide))), expected)
    assert np.array_equal(pixels(stored(Image.fromarray(wide), "TIFF")), expected)


def test_palette_with_and_without_transparency():
    colours = np.random.default_rng(2).integers(0, 256, (256, 3), np.uint8)
    image = Image.fromarray(GRAY, mode="L").convert("P")
    image.putpalette(colours.tobytes())
    expected = colours[GRAY]
    assert np.array_equal(pixels(stored(image)), expected)
    with_transparency = stored(image, transparency=bytes(range(256)))
    assert np.array_equal(pixels(with_transparency), expected)


def test_transparency_is_dropped():
    image = Image.fromarray(np.dstack([COLOUR, GRAY]), mode="RGBA")
    assert np.array_equal(pixels(stored(image)), COLOUR)


def test_cmyk_jpeg_keeps_its_colours():
    data = stored(smooth("RGB").convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    difference = pixels(data).astype(int) - np.asarray(smooth("RGB"))
    assert np.abs(difference).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_of_a_turned_camera_are_set_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = stored(Image.fromarray(COLOUR), "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(pixels(data), np.asarray(expected))
    assert np.array_equal(pixels(data), COLOUR) == (orientation == 1)
    again = ImageOps.exif_transpose(decode_rgb(data))
    assert np.array_equal(np.asarray(again), np.asarray(expected))


def test_damaged_metadata_do_not_cost_the_image():
    data = stored(Image.fromarray(COLOUR), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\0\1\2")
    assert np.array_equal(pixels(data), COLOUR)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (GRAY.astype(np.float32) / 255, "floating-point numbers of unknown range"),
        (GRAY.astype(np.int32) << 20, "32-bit numbers of unknown range"),
        (-GRAY.astype(np.int32), "32-bit numbers of unknown range"),
    ],
)
def test_no_range_of_pixels_is_guessed(values, said):
    data = stored(Image.fromarray(values), "TIFF")
    assert said in find_fault(data, None)
    with pytest.raises(ValueError, match=said):
        decode_rgb(data)


def test_no_other_program_is_started_by_content(tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    for name in ("gs", "gswin64c"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho started >> {trace}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    subprocess.run(["gs"], check=True)
    trace.unlink()  # it leaves a trace where it is started
    for header in (b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%!PS\n", b"\xc5\xd0\xd3\xc6" + bytes(26)):
        data = header + b"%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"
        assert "no image in a format that is read" in find_fault(data, None)
        with pytest.raises(Image.UnidentifiedImageError):
            decode_rgb(data)
    assert not trace.exists()


def test_images_of_too_many_pixels_are_found_by_their_header():
    side = int(MAX_PIXELS**0.5)
    assert find_fault(stored(Image.new("1", (side, side)), "PNG"), 500) is None
    data = stored(Image.new("1", (side + 1, side)), "PNG")
    assert "pixels are more than" in find_fault(data, 500)
    with pytest.raises(ValueError, match="pixels are more than"):
        decode_rgb(data)


def test_the_content_counts_not_the_name(tmp_path):
    path = tmp_path / "n02105855_2933.JPEG"  # ImageNet has a PNG of that name
    Image.fromarray(COLOUR).save(path, "PNG")
    assert np.array_equal(pixels(path.read_bytes()), COLOUR)


@pytest.mark.parametrize(
    "form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "TGA", "PPM", "PCX"]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_whole_files_have_no_fault(form, mode):
    assert find_fault(stored(smooth(mode), form), 500) is None


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated_jpegs_are_found(options, part):
    data = stored(Image.fromarray(COLOUR).resize((200, 150)), "JPEG", **options)
    assert find_fault(data, 500) is None
    assert find_fault(data[: int(part * len(data))], 500)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP"])
def test_truncated_files_of_other_formats_are_found(form):
    data = stored(Image.fromarray(COLOUR).resize((200, 150)), form)
    assert find_fault(data[: len(data) // 2], 500)


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", bytes(1000)])
def test_what_is_no_image_is_found(data):
    assert find_fault(data, 500)


def test_images_that_shrinking_would_flatten_are_found():
    data = stored(Image.new("RGB", (1200, 4)))
    assert "1200×4 pixels shrunk to 500 are too few" in find_fault(data, 500)
    assert find_fault(data, 600) is None
    assert find_fault(data, None) is None


@pytest.mark.parametrize(
    ("size", "max_side", "usable"),
    [
        ((1, 1), None, False),  # the crop of an evaluation would be empty, and ends the process
        ((1, 300), 500, False),
        ((2, 2), None, True),
        ((1000, 2), 500, False),
        ((24500, 49), 500, False),  # 500/24500 × 49 is a little less than 1
        ((1000, 4), 500, True),
    ],
)
def test_images_that_ffcv_cannot_crop_are_found(size, max_side, usable):
    data = stored(Image.new("RGB", size), "PNG")
    assert (find_fault(data, max_side) is None) == usable
    side = min(size)
    if max_side and max(size) > max_side:
        side = (max_side / max(size) * np.array(size)).astype(int).min()
    assert (get_center_crop(side, side, None, EVALUATION_CROP)[2] > 0) == usable
