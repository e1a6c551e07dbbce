"""predict's pixels are those of the evaluation."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

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
    assert torch.equal(fixed.pixels(png(image)), torch.from_numpy(image.copy()).permute(2, 0, 1))
    assert fixed.pixels(png(picture(50, 90))).shape == (3, 32, 32)
    gray = Image.fromarray(image[..., 0])
    file = io.BytesIO()
    gray.save(file, "PNG")
    assert fixed.pixels(file.getvalue()).shape == (3, 32, 32)


def test_no_image_raises():
    fixed = Preprocessing(size=32, crop=1.0, max_side=None, mean=[0.5] * 3, std=[0.2] * 3)
    with pytest.raises(Exception, match="cannot identify"):
        fixed.pixels(b"no image")
    with pytest.raises(OSError, match="truncated"):
        fixed.pixels(png(picture(32, 32))[:300])
