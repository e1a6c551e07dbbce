"""Augmentation as a function of (seed, epoch, sample), as operations of FFCV's pipelines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numba
import numpy as np
from ffcv.fields.rgb_image import IMAGE_MODES, ResizedCropRGBImageDecoder
from ffcv.libffcv import imdecode, resize_crop
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State
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


def _type_uint64_pointer(_, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.uint64)(address), generate


# Compiled code calls it with the address alone, which numba's own types do not know.
_uint64_pointer: Any = intrinsic(_type_uint64_pointer)


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
    """Give a number in [0, 1) for each (seed, epoch, sample, draw), the same on every machine."""
    state = _mix(_mix(_mix(_mix(seed) ^ np.uint64(epoch)) ^ np.uint64(sample)) ^ np.uint64(draw))
    return np.float64(state >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(nogil=True)
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


def _in_parallel(code: Any, with_indices: bool) -> Callable:
    """Mark code for FFCV: its loop is over threads, and perhaps it wants the samples' indices."""
    code.is_parallel, code.with_indices = True, with_indices
    return code


class KeyedOperation(Operation):
    """A change of pixels that depends on (seed, epoch, sample); shapes stay."""

    def __init__(self, key: AugmentationKey):
        super().__init__()
        self.key = key

    def declare_state_and_memory(self, previous: State) -> tuple[State, AllocationQuery]:
        """FFCV's hook: same shape, one buffer."""
        return replace(previous, jit_mode=True), AllocationQuery(previous.shape, previous.dtype)


class Flip(KeyedOperation):
    """Mirror half of the samples left to right."""

    def generate_code(self) -> Callable:
        """FFCV's hook: the function to compile, images [B, H, W, 3] → the same."""
        address = self.key.address
        samples = Compiler.get_iterator()

        def flip(images, out, indices):
            key = read_key(address)
            for i in samples(len(indices)):
                if uniform(key[0], key[1], indices[i], FLIP) < 0.5:
                    out[i] = images[i, :, ::-1]
                else:
                    out[i] = images[i]
            return out[: len(indices)]

        return _in_parallel(flip, with_indices=True)


class Translate(KeyedOperation):
    """Move each sample by up to ``pixels`` in both directions, filling with black."""

    def __init__(self, key: AugmentationKey, pixels: int):
        super().__init__(key)
        self.pixels = pixels

    def generate_code(self) -> Callable:
        """FFCV's hook: the function to compile, images [B, H, W, 3] → the same."""
        address = self.key.address
        pixels = self.pixels
        samples = Compiler.get_iterator()

        def translate(images, out, indices):
            key = read_key(address)
            height, width = images.shape[1], images.shape[2]
            positions = 2 * pixels + 1
            for i in samples(len(indices)):
                down = int(uniform(key[0], key[1], indices[i], SHIFT_ROWS) * positions) - pixels
                right = int(uniform(key[0], key[1], indices[i], SHIFT_COLUMNS) * positions) - pixels
                out[i] = 0
                out[
                    i, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)
                ] = images[
                    i,
                    max(0, -down) : height + min(0, -down),
                    max(0, -right) : width + min(0, -right),
                ]
            return out[: len(indices)]

        return _in_parallel(translate, with_indices=True)


class RandomResizedCrop(ResizedCropRGBImageDecoder):
    """Decode a random crop of an image, resized to [size, size, 3]."""

    def __init__(self, key: AugmentationKey, size: int):
        super().__init__((size, size))
        self.key = key

    get_crop_generator = None  # of FFCV's class, whose crop cannot know the sample

    def generate_code(self) -> Callable:
        """FFCV's hook: the function to compile, sample indices [B] → images [B, size, size, 3]."""
        address = self.key.address
        jpeg = IMAGE_MODES["jpg"]
        read = self.memory_read
        samples = Compiler.get_iterator()
        decode_jpeg = Compiler.compile(imdecode)
        resize = Compiler.compile(resize_crop)

        def decode(indices, buffers, metadata, storage):
            key = read_key(address)
            out, scratch = buffers
            for i in samples(len(indices)):
                entry = metadata[indices[i]]
                data = read(entry["data_ptr"], storage)
                height, width = np.uint32(entry["height"]), np.uint32(entry["width"])
                if entry["mode"] == jpeg:
                    pixels = scratch[i]
                    decode_jpeg(
                        data, pixels, height, width, height, width, 0, 0, 1, 1, False, False
                    )
                    image = pixels[: 3 * height * width].reshape(height, width, 3)
                else:
                    image = data.reshape(height, width, 3)
                top, left, h, w = random_crop(key[0], key[1], indices[i], height, width)
                resize(image, top, top + h, left, left + w, out[i])
            return out[: len(indices)]

        return _in_parallel(decode, with_indices=False)
