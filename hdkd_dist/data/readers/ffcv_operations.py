"""Augmentation as operations of FFCV's pipelines.

Pixels are copied by loops: numba compiles the assignment of one slice to another for seconds, for
the sake of a message about shapes, and runs it several times slower.
"""

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
from numba.extending import intrinsic, register_jitable

from hdkd_dist.data import augment
from hdkd_dist.data.augment import (
    SHIFT_COLUMNS,
    SHIFT_ROWS,
    Augmentation,
    is_flipped,
    random_crop,
    shift,
)
from hdkd_dist.data.colours import change_colours

# Compiled code may call these; they stay plain functions for everyone else.
for _function in (augment.mix, augment.uniform, is_flipped, shift, random_crop):
    register_jitable(_function)


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
            last = images.shape[2] - 1
            for i in samples(len(indices)):
                mirrored = is_flipped(key[0], key[1], indices[i])
                for row in range(images.shape[1]):
                    for column in range(images.shape[2]):
                        source = last - column if mirrored else column
                        for channel in range(3):
                            out[i, row, column, channel] = images[i, row, source, channel]
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
            for i in samples(len(indices)):
                down = shift(key[0], key[1], indices[i], SHIFT_ROWS, pixels)
                right = shift(key[0], key[1], indices[i], SHIFT_COLUMNS, pixels)
                out[i] = 0
                for row in range(max(0, down), height + min(0, down)):
                    for column in range(max(0, right), width + min(0, right)):
                        for channel in range(3):
                            out[i, row, column, channel] = images[
                                i, row - down, column - right, channel
                            ]
            return out[: len(indices)]

        return _in_parallel(translate, with_indices=True)


class ChangeColours(KeyedOperation):
    """Apply RandAugment and colour jitter, by Pillow and therefore not compiled."""

    def __init__(self, key: AugmentationKey, augmentation: Augmentation):
        super().__init__(key)
        self.augmentation = augmentation

    def declare_state_and_memory(self, previous: State) -> tuple[State, AllocationQuery]:
        """FFCV's hook: same shape, one buffer, Python's own code."""
        state, allocation = super().declare_state_and_memory(previous)
        return replace(state, jit_mode=False), allocation

    def generate_code(self) -> Callable:
        """FFCV's hook: the function to call, images [B, H, W, 3] → the same."""

        def change(images, out, indices):
            seed, epoch = self.key.numbers.tolist()
            for i, sample in enumerate(indices.tolist()):
                out[i] = change_colours(images[i], self.augmentation, seed, epoch, sample)
            return out[: len(indices)]

        return _in_parallel(change, with_indices=True)


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
