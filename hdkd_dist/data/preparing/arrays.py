"""Data sets that are held as arrays in one ``.npz`` file: images, labels, by part."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.preparing.beton import ArraySamples, FieldOptions
from hdkd_dist.data.preparing.channel_statistics import channel_statistics
from hdkd_dist.data.preparing.write import check_whole, draw_splits, find_finished, write_data_set

# How people call images and labels of the training part and of the held-out one. MedMNIST has a
# part for validation, too; metaval is drawn from the training images all the same.
NAMES = (
    (("x_train", "y_train"), ("x_test", "y_test")),
    (("train_images", "train_labels"), ("test_images", "test_labels")),
    (("images", "labels"), ("test_images", "test_labels")),
    (("x", "y"), ("x_test", "y_test")),
)
EXPECTED = "x_train, y_train, x_test, y_test (or train_images, train_labels, …; or images, labels)"
TEST_SEED = 0  # the test split is the same whatever the seed: it stands for an official one


@dataclass(frozen=True)
class Part:
    """Hold images [N,S,S,3] uint8 and labels [N] int64."""

    images: np.ndarray
    labels: np.ndarray


def prepare_arrays(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    per_class: int | None = None,
    metaval_per_class: int = 50,
    test_per_class: int | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
    flip: bool = True,
    translate: int | None = None,
    workers: int = 1,
) -> Manifest:
    """Write the arrays of a ``.npz`` file to ``out`` as a data set unless it is there.

    Args:
        source: the file; images [N,S,S], [N,S,S,1] or [N,S,S,3] uint8, labels [N] or [N,1] whole
            numbers from 0 on, named as in ``NAMES``.
        out: folder of the data set; appears complete or not at all.
        per_class: images per class for train and metaval together; None takes all.
        metaval_per_class: images per class for meta-validation.
        test_per_class: images per class that are drawn as test split, where the file has none.
        seed: of the drawing of train and metaval.
        classes: their names; none for numbers.
        flip: mirror images in training.
        translate: pixels that images are moved by in training; None for an eighth of their side.
        workers: processes; one is enough for small images.

    Raises:
        ValueError: a file of another content, or numbers that it cannot serve.
    """
    path = Path(source)
    train, test = read_arrays(path)
    if (test is None) == (test_per_class is None):
        raise ValueError(
            f"{path} has no test part: draw one by --test_per_class"
            if test is None
            else f"{path} has a test part: leave --test_per_class out"
        )
    names = name_classes(train.labels, test.labels if test else train.labels, classes)
    side = train.images.shape[1]
    shift = side // 8 if translate is None else check_whole("translate", translate, 0)
    job = {
        "data": "arrays",
        "per_class": per_class,
        "metaval_per_class": metaval_per_class,
        "test_per_class": test_per_class,
        "seed": seed,
        "classes": list(classes) or None,
        "flip": flip,
        "translate": shift,
        "source_sha256": identity_of([train, *([test] if test else [])]),
    }
    out = Path(out).absolute()
    if finished := find_finished(out, job):
        return finished
    pool = np.arange(len(train.labels))
    if test is None:
        pool, drawn = draw_splits(
            train.labels, None, test_per_class or 0, TEST_SEED, names, held_out="test"
        )
        test = Part(train.images[drawn], train.labels[drawn])
    used, metaval = draw_splits(train.labels[pool], per_class, metaval_per_class, seed, names)
    splits = {
        "train": ArraySamples(train.images, train.labels, pool[used]),
        "metaval": ArraySamples(train.images, train.labels, pool[metaval]),
        "test": ArraySamples(test.images, test.labels, range(len(test.labels))),
    }
    mean, std = channel_statistics(splits["train"])
    return write_data_set(
        out,
        job,
        splits,
        name=out.name,
        classes=names,
        image={"size": side, "mean": mean, "std": std},
        augmentation={"flip": flip, "translate": shift},
        options=FieldOptions(write_mode="raw"),
        workers=check_whole("workers", workers, 1),
    )


def read_arrays(path: Path) -> tuple[Part, Part | None]:
    """Return the training part and the test part, if the file has one.

    Raises:
        ValueError: no ``.npz`` file, or arrays of another form.
    """
    if not path.is_file():
        raise ValueError(f"--source {path} does not exist: give a .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            there = {name.removesuffix(".npy"): name for name in archive.namelist()}
            for train_names, test_names in NAMES:
                if not set(train_names) <= set(there):
                    continue
                train = read_part(archive, path, *train_names)
                has_test = set(test_names) <= set(there)
                test = read_part(archive, path, *test_names) if has_test else None
                if test and test.images.shape[1:] != train.images.shape[1:]:
                    raise ValueError(f"the images of the two parts of {path} differ in size")
                return train, test
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"cannot read {path}, damaged or no .npz file ({error})") from error
    raise ValueError(
        f"{path} has the arrays {', '.join(sorted(there)[:8]) or 'none'}: name them {EXPECTED}"
    )


def read_part(archive: zipfile.ZipFile, path: Path, images: str, labels: str) -> Part:
    """Return one part; ``ValueError`` names the array that is wrong."""
    pixels = as_rgb(read_array(archive, images), f"{images} in {path}")
    numbers = as_labels(read_array(archive, labels), f"{labels} in {path}")
    if len(pixels) != len(numbers):
        raise ValueError(f"{path} has {len(pixels)} {images} but {len(numbers)} {labels}")
    return Part(pixels, numbers)


def read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Return one array of the file, which is never larger than what the file says it holds.

    Raises:
        ValueError: objects, or a shape that the stored bytes do not fill.
    """
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as file:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        version = npy.read_magic(file)
        if version not in readers:
            raise ValueError(f"{name} is in version {version} of numpy's format, which is not read")
        shape, _, kind = readers[version](file)
        size = int(np.prod(shape, dtype=object)) * kind.itemsize
        if kind.hasobject or size != entry.file_size - file.tell():
            raise ValueError(
                f"{name} holds objects, or not as many bytes as its shape {shape} says"
            )
    with archive.open(entry) as file:
        return npy.read_array(file, allow_pickle=False)


def as_rgb(images: np.ndarray, name: str) -> np.ndarray:
    """Turn [N,S,S], [N,S,S,1] or [N,S,S,3] uint8 into [N,S,S,3]."""
    shape = images.shape
    if images.dtype != np.uint8:
        raise ValueError(
            f"{name} has values of type {images.dtype}, whose range nobody knows: give uint8"
        )
    gray = images.ndim == 3 or (images.ndim == 4 and shape[3] == 1)
    if not gray and (images.ndim != 4 or shape[3] != 3):
        raise ValueError(f"{name} has the shape {shape}: give [N,S,S], [N,S,S,1] or [N,S,S,3]")
    if shape[1] != shape[2] or not shape[1]:
        raise ValueError(f"{name} has images of {shape[1]}×{shape[2]} pixels: give square ones")
    colour = images.reshape(*shape[:3], -1)
    return np.broadcast_to(colour, (*shape[:3], 3))


def as_labels(labels: np.ndarray, name: str) -> np.ndarray:
    """Turn [N] or [N,1] whole numbers from 0 on into [N] int64."""
    flat = labels.reshape(-1) if labels.shape[1:] in ((), (1,)) else None
    if flat is None or labels.dtype.kind not in "iu" or flat.min(initial=0) < 0:
        raise ValueError(
            f"{name} has the shape {labels.shape} and type {labels.dtype}: give one whole number "
            "from 0 on for each image"
        )
    return flat.astype(np.int64)


def name_classes(train: np.ndarray, test: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return the classes' names, numbers unless ``names`` are given."""
    number = int(max(train.max(initial=-1), test.max(initial=-1))) + 1
    if number > len(train):
        raise ValueError(f"the largest label is {number - 1}, but there are {len(train)} images")
    if names and len(names) != number:
        raise ValueError(
            f"--classes has {len(names)} names, but the labels go from 0 to {number - 1}"
        )
    return [str(name) for name in names] or [str(label) for label in range(number)]


def identity_of(parts: Sequence[Part]) -> str:
    """Return the sha256 of all images and labels."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(part.labels.tobytes())
    return digest.hexdigest()
