"""Augmentation as a function of (seed, epoch, sample), as operations of FFCV's pipelines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from ffcv.fields.rgb_image import IMAGE_MODES, ResizedCropRGBImageDecoder
from ffcv.libffcv import imdecode, resize_crop
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State

from hdkd_dist.data.keyed_random import (
    FLIP,
    SHIFT_COLUMNS,
    SHIFT_ROWS,
    AugmentationKey,
    random_crop,
    read_key,
    uniform,
)


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

        flip.is_parallel = True
        flip.with_indices = True
        return flip


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

        translate.is_parallel = True
        translate.with_indices = True
        return translate


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

        decode.is_parallel = True
        return decode
