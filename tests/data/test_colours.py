"""RandAugment and colour jitter: drawn per sample, and what their names say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from hdkd_dist.data.augment import COLOUR_JITTER, Augmentation, uniform
from hdkd_dist.data.colours import OPERATIONS, change_colours, draw_operations

PIXELS = np.random.default_rng(0).integers(0, 256, (33, 33, 3), np.uint8)
ALL = Augmentation(randaugment=9, colour_jitter=0.4)
GRAY = np.array([299, 587, 114]) / 1000  # luminance, ITU-R 601


@pytest.fixture(autouse=True)
def _wrapping_integers():
    with np.errstate(over="ignore"):
        yield


def test_changes_are_a_function_of_seed_epoch_and_sample():
    first = change_colours(PIXELS, ALL, 1, 2, 3)
    assert np.array_equal(change_colours(PIXELS, ALL, 1, 2, 3), first)
    for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(change_colours(PIXELS, ALL, *key), first)


def test_nothing_changes_unless_it_is_asked_for():
    assert not Augmentation().changes_colours
    assert np.array_equal(change_colours(PIXELS, Augmentation(), 1, 2, 3), PIXELS)


def test_operations_are_drawn_alike_independently_and_with_both_signs():
    drawn = [draw_operations(2, 0, 0, sample) for sample in range(2800)]
    for place in range(2):
        counts = Counter(each[place][0] for each in drawn)
        assert set(counts) == set(OPERATIONS)
        assert max(abs(count - 200) for count in counts.values()) < 5 * 200**0.5
        assert abs(sum(each[place][1] for each in drawn)) < 5 * 2800**0.5
    twice = sum(one[0] == other[0] for one, other in drawn)
    assert abs(twice - 200) < 5 * 200**0.5


def clipped(values):
    return np.clip(values, 0, 255)


def moved_right(pixels, columns):
    out = np.zeros_like(pixels)
    out[:, columns:] = pixels[:, : pixels.shape[1] - columns]
    return out


KNOWN = {  # with the strength that is asked for: (strength, expected)
    "identity": (1.0, PIXELS),
    "translate_x": (-0.5, moved_right(PIXELS, int(150 / 331 * 33 * 0.5))),
    "translate_y": (-0.5, moved_right(PIXELS.transpose(1, 0, 2), 7).transpose(1, 0, 2)),
    "brightness": (-1.0, PIXELS * 0.1),
    "colour": (1.0, clipped(PIXELS @ GRAY[:, None] * -0.9 + PIXELS * 1.9)),
    "posterise": (-1.0, PIXELS & 0xF0),
    "solarise": (0.5, np.where(PIXELS < 128, PIXELS, 255 - PIXELS)),
    "autocontrast": (1.0, (PIXELS - PIXELS.min((0, 1))) * 255.0 / np.ptp(PIXELS, (0, 1))),
}


@pytest.mark.parametrize("name", KNOWN)
def test_operations_are_what_their_names_say(name):
    strength, expected = KNOWN[name]
    found = np.asarray(OPERATIONS[name](Image.fromarray(PIXELS), strength)).astype(float)
    assert np.abs(found - expected).max() <= 1.5  # Pillow rounds luminance and cuts off fractions


def test_a_turn_of_thirty_degrees():
    """The centre stays; what lies to its right goes up, for Pillow turns against the clock."""
    pixels = np.zeros((33, 33, 3), np.uint8)
    pixels[16, 16] = pixels[16, 28] = 255
    found = np.asarray(OPERATIONS["rotate"](Image.fromarray(pixels), 1.0))[..., 0]
    assert found[16, 16] == 255
    rows, columns = np.nonzero(found)
    far = (rows != 16) | (columns != 16)
    assert abs(rows[far].mean() - (16 - 12 * np.sin(np.pi / 6))) <= 1
    assert abs(columns[far].mean() - (16 + 12 * np.cos(np.pi / 6))) <= 1


def test_colour_jitter_is_brightness_contrast_and_saturation():
    key = (7, 1, 5)
    factors = [
        1 + 0.4 * (2 * float(uniform(*key, COLOUR_JITTER + place)) - 1) for place in range(3)
    ]
    assert all(0.6 <= factor <= 1.4 for factor in factors)
    assert len(set(factors)) == 3
    bright = clipped(PIXELS * factors[0])
    mean = (bright @ GRAY).mean()
    contrasted = clipped(mean + factors[1] * (bright - mean))
    gray = contrasted @ GRAY[:, None]
    expected = clipped(gray + factors[2] * (contrasted - gray))
    found = change_colours(PIXELS, Augmentation(colour_jitter=0.4), *key)
    assert np.abs(found - expected).max() <= 4  # three roundings, each enlarged by the next
