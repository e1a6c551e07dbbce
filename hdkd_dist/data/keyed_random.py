"""Random numbers that belong to a sample, not to a thread, for compiled code.

FFCV's own augmentations draw from a generator per thread, so that a run depends on its workers.
Here every draw is a hash: sample 17 of epoch 3 looks the same on any rank, with any number of
workers, and after a resume.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

# What a draw is for; each sample has one independent number for each.
FLIP, SHIFT_ROWS, SHIFT_COLUMNS, CROP = 0, 1, 2, 3
CROP_ATTEMPTS = 10
CROP_AREA = (0.08, 1.0)  # of the image, as for Inception (Szegedy et al. 2015)
CROP_LOG_ASPECT = (float(np.log(3 / 4)), float(np.log(4 / 3)))


@dataclass(frozen=True)
class AugmentationKey:
    """(seed, epoch) of a stream, readable by compiled code.

    numba freezes what a closure captures, so an epoch counter captured by a pipeline would never
    change. The pipeline captures the *address* of these two numbers instead.
    """

    numbers: np.ndarray = field(default_factory=lambda: np.zeros(2, np.uint64))

    def set(self, seed: int, epoch: int) -> None:
        """Choose the augmentations of the pass over the data that starts now."""
        self.numbers[:] = seed, epoch

    @property
    def address(self) -> int:
        """Where compiled code finds the numbers; valid as long as this object lives."""
        return self.numbers.ctypes.data


@intrinsic
def _uint64_pointer(_, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.uint64)(address), generate


@numba.njit(nogil=True)
def read_key(address):
    """[2] uint64: the seed and the epoch behind :attr:`AugmentationKey.address`."""
    return numba.carray(_uint64_pointer(address), (2,))


@numba.njit(nogil=True)
def _mix(state):
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): each input bit reaches each output bit."""
    state = np.uint64(state) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@numba.njit(nogil=True)
def uniform(seed, epoch, sample, draw):
    """A number in [0, 1) for each (seed, epoch, sample, draw), the same on every machine."""
    state = _mix(_mix(_mix(_mix(seed) ^ np.uint64(epoch)) ^ np.uint64(sample)) ^ np.uint64(draw))
    return np.float64(state >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(nogil=True)
def random_crop(seed, epoch, sample, height, width):
    """The random resized crop of a sample: top, left, height, width in pixels.

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
