"""predict's pixels are those of the evaluation."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from hdkd_dist.data.normalize import Normalize
from hdkd_dist.inference.preprocessing import Preprocessing, area_resize


def picture(height, width, seed=0):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (7, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("side", [437, 256, 225, 223, 200, 196, 112, 61, 448])
def test_area_resize_is_opencvs(side):
    image = picture(side, side)
    ours = area_resize(image, 224, 224)
    theirs = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_shrinking_to_a_longest_side_is_opencvs():
    image = picture(600, 811)
    ours = area_resize(image, 369, 500)
    theirs = cv2.resize(image, (500, 369), interpolation=cv2.INTER_AREA)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_images_of_the_right_size_stay_as_they_are():
    image = picture(32, 32)
    fixed = Preprocessing(size=32, crop=1.0, max_side=None, mean=[0.5] * 3, std=[0.2] * 3)
    assert np.array_equal(fixed.of_file(png(image)), image)
    assert fixed.of_file(png(picture(50, 90))).shape == (32, 32, 3)
    gray = Image.fromarray(image[..., 0])
    file = io.BytesIO()
    gray.save(file, "PNG")
    assert fixed.of_file(file.getvalue()).shape == (32, 32, 3)


def test_no_image_raises():
    fixed = Preprocessing(size=32, crop=1.0, max_side=None, mean=[0.5] * 3, std=[0.2] * 3)
    with pytest.raises(Exception, match="cannot identify"):
        fixed.of_file(b"no image")
    with pytest.raises(OSError, match="truncated"):
        fixed.of_file(png(picture(32, 32))[:300])


def test_numbers_are_those_of_the_training():
    fixed = Preprocessing(size=16, crop=1.0, max_side=None, mean=[0.3, 0.4, 0.5], std=[0.2] * 3)
    images = np.stack([picture(16, 16, seed) for seed in range(3)])
    trained = Normalize.of(fixed.mean, fixed.std, "cpu")(
        torch.from_numpy(images).permute(0, 3, 1, 2)
    )
    ours = torch.from_numpy(fixed.normalize(images))
    assert torch.equal(ours, trained)
    assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photos_are_turned_back(orientation):
    """The note says how a viewer must turn what is stored, which is turned the other way here."""
    image = Image.fromarray(picture(40, 24))
    stored = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    turned = image
    for step in stored:
        turned = turned.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    fixed = Preprocessing(size=24, crop=1.0, max_side=None, mean=[0.5] * 3, std=[0.2] * 3)
    assert np.array_equal(fixed.of_file(file.getvalue()), fixed.of_image(image))


GOOD = {"size": 16, "crop": 1.0, "max_side": None, "mean": [0.5] * 3, "std": [0.2] * 3}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("std", [0.2, 0.0, 0.2], "std must be above 0"),
        ("std", [0.2, float("inf"), 0.2], "std must be 3 finite numbers"),
        ("mean", [0.2, float("nan"), 0.2], "mean must be 3 finite numbers"),
        ("mean", [0.2, 0.2], "mean must be 3 finite numbers"),
        ("size", 0, "size and max_side must be"),
        ("size", 16.0, "size and max_side must be"),
        ("max_side", -1, "size and max_side must be"),
        ("crop", float("nan"), "crop must be"),
        ("crop", 1.1, "crop must be"),
    ],
)
def test_values_that_give_no_image_are_refused(name, value, said):
    Preprocessing(**GOOD)
    with pytest.raises(ValueError, match=said):
        Preprocessing(**{**GOOD, name: value})
