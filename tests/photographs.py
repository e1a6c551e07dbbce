"""Images whose every pixel tells where it was: shared by the tests of the readers."""

from __future__ import annotations

import numpy as np
import torch

from hdkd_dist.data.preparing.beton import ArraySamples, FieldOptions
from hdkd_dist.data.preparing.write import write_data_set

CPU = torch.device("cpu")
SIDE, SAMPLES = 8, 40


def photographs(sizes):
    """Images whose every pixel is its own: red is the row, green the column, blue the image."""
    images = []
    for number, (height, width) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width]
        blue = np.full((height, width), number)
        images.append(np.stack([rows, columns, blue], axis=-1).astype(np.uint8))
    return images


def write(folder, images, size, augmentation, write_mode="raw"):
    """Write images of two classes, the same ones as every split."""
    labels = np.arange(len(images)) % 2
    samples = ArraySamples(images, labels, range(len(images)))
    return write_data_set(
        folder,
        job={"data": folder.name},
        splits={"train": samples, "metaval": samples, "test": samples},
        name=folder.name,
        classes=["even", "odd"],
        image={"size": size, "mean": [0.5] * 3, "std": [0.25] * 3},
        augmentation=augmentation,
        options=FieldOptions(write_mode=write_mode),
        workers=1,
    )


def fixed_set(folder):
    """Images of one size, none of whose pixels is black."""
    images = np.stack(photographs([(SIDE, SIDE)] * SAMPLES)) + 10
    return write(folder, images, SIDE, {"flip": True, "translate": 2})


def varying_set(folder, **options):
    """Images of many sizes."""
    images = photographs([(60 + n % 7, 50 + n % 11) for n in range(SAMPLES)])
    return write(folder, images, None, {"flip": True, "resized_crop": True}, **options)
