"""The embedded data set: scikit-learn's handwritten digits, ready in seconds without a download."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.preparing.beton import ArraySamples, FieldOptions
from hdkd_dist.data.preparing.write import check_whole, draw_splits, find_finished, write_data_set

BRIGHTEST = 16  # the values are 0..16
ENLARGE = 2  # 8 px to 16: the network halves its input four times
TEST_PER_CLASS = 40
SAMPLES = "samples"  # the folder, beside the splits, of test images to predict
SAMPLES_PER_CLASS = 2
TEST_SEED = 0  # the test split is the same whatever the seed: it stands for an official one
# Of the 1,797 images; the three channels are equal.
MEAN, STD = 0.3053, 0.3760


def prepare_digits(
    out: str | os.PathLike[str],
    per_class: int | None = None,
    metaval_per_class: int = 30,
    seed: int = 0,
    workers: int = 1,
) -> Manifest:
    """Write the digits to ``out`` unless they are there: 16×16 RGB, 40 test images per class.

    Beside the splits a folder of 20 test images is left as PNG files, for a first prediction.

    Args:
        out: folder of the data set; appears complete or not at all.
        per_class: images per class for train and metaval together; None takes all, 134 to 143.
        metaval_per_class: images per class for meta-validation.
        seed: of the drawing of metaval and train.
        workers: processes; one is enough.

    Raises:
        ValueError: ``out`` holds something else, or numbers that the data cannot serve.
    """
    bunch = load_digits()
    images = to_rgb(bunch.images)
    labels = bunch.target.astype(np.int64)
    job = {
        "data": "digits",
        "per_class": per_class,
        "metaval_per_class": metaval_per_class,
        "seed": seed,
        "source_sha256": hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
    }
    classes = [str(digit) for digit in range(10)]
    pool, test = draw_splits(labels, None, TEST_PER_CLASS, TEST_SEED, classes)
    if finished := find_finished(out, job):
        write_samples(Path(out, SAMPLES), images, labels, test)
        return finished
    train, metaval = draw_splits(labels[pool], per_class, metaval_per_class, seed, classes)
    manifest = write_data_set(
        out,
        job,
        splits={
            "train": ArraySamples(images, labels, pool[train]),
            "metaval": ArraySamples(images, labels, pool[metaval]),
            "test": ArraySamples(images, labels, test),
        },
        name="digits",
        classes=classes,
        image={"size": images.shape[1], "mean": [MEAN] * 3, "std": [STD] * 3},
        augmentation={"flip": False, "translate": 1},
        options=FieldOptions(write_mode="raw"),
        workers=check_whole("workers", workers, 1),
    )
    write_samples(Path(out, SAMPLES), images, labels, test)
    return manifest


def write_samples(folder: Path, images: np.ndarray, labels: np.ndarray, test: np.ndarray) -> None:
    """Write the first two test images of each class to PNG files named after it, if missing.

    Args:
        folder: gets them.
        images: [N,16,16,3] uint8.
        labels: [N].
        test: rows of the test split.
    """
    folder.mkdir(exist_ok=True)
    for label in range(10):
        for number, row in enumerate(test[labels[test] == label][:SAMPLES_PER_CLASS]):
            file = folder / f"digit_{label}_{number}.png"
            if not file.exists():
                Image.fromarray(images[row]).save(file)


def to_rgb(values: np.ndarray) -> np.ndarray:
    """Turn [N,8,8] values in 0..16 into [N,16,16,3] uint8, each value a square of 2×2 pixels."""
    gray = np.rint(values * (255 / BRIGHTEST)).astype(np.uint8)
    large = gray.repeat(ENLARGE, axis=1).repeat(ENLARGE, axis=2)
    return np.ascontiguousarray(np.broadcast_to(large[..., None], (*large.shape, 3)))
