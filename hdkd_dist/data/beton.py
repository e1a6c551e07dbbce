"""Read the tables of a ``.beton`` file, and hold them against its size and the manifest.

The format is FFCV's, written down here so that any machine can read a prepared data set: header,
descriptions of the fields, one record per sample, the images, and a table of where those lie.
FFCV itself believes a file's numbers: with wrong ones it reads outside its tables, or dies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hdkd_dist.data.manifest import AGAIN, Split

VERSION = 2  # of the format
HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FIELD = np.dtype([("type_id", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", 1024))])
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
SAMPLE = np.dtype([("image", IMAGE), ("label", "<i8"), ("index", "<i8")], align=True)
PLACE = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])
FIELDS = {"image": 2, "label": 1, "index": 1}  # name and FFCV's number of the kind: image, integer
JPEG, RAW = 0, 1  # the modes in which an image is stored


@dataclass(frozen=True)
class Tables:
    """Hold what a file says of its N samples.

    Attributes:
        samples: [N] records of ``SAMPLE``: mode, sides and place of the image; label; index.
        places: [N] records of ``PLACE``: where each image lies, and its bytes.
    """

    samples: np.ndarray
    places: np.ndarray


def read_tables(path: Path, split: Split) -> Tables:
    """Read a file's tables and check that they fit the file and the manifest.

    The images themselves are not read: that is what the manifest's sha256 is for.

    Raises:
        ValueError: in one line, for a file that cannot be read or is damaged.
    """
    try:
        with open(path, "rb") as file:
            return checked_tables(file, path.stat().st_size, split)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except DamageError as error:
        raise ValueError(f"{path} is damaged: {error}; {AGAIN}") from error


def read_labels(path: Path) -> np.ndarray:
    """Read the labels [N] of a file that has just been written, and that no manifest describes."""
    with open(path, "rb") as file:
        header = read(file, HEADER, 1)[0]
        read(file, FIELD, len(FIELDS))
        return read(file, SAMPLE, int(header["num_samples"]))["label"]


class DamageError(Exception):
    """Say what does not fit."""


def checked_tables(file: BinaryIO, size: int, split: Split) -> Tables:
    """Check one table after the other; ``DamageError`` says what does not fit."""
    header = read(file, HEADER, 1)[0]
    if header["version"] != VERSION or header["num_fields"] != len(FIELDS):
        raise DamageError("it does not begin as FFCV's files do")
    if header["num_samples"] != split.samples:
        raise DamageError(
            f"it says it has {header['num_samples']:,} images, the manifest {split.samples:,}"
        )
    expected = field_table()
    if read(file, FIELD, len(expected)).tobytes() != expected.tobytes():
        raise DamageError("its fields are not image, label and index")
    if SAMPLE.itemsize * split.samples > size:
        raise DamageError(f"{split.samples:,} images do not fit in it")
    samples = read(file, SAMPLE, split.samples)
    labels, classes = samples["label"], len(split.per_class)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise DamageError(f"a label is none of the manifest's {classes} classes")
    if tuple(np.bincount(labels, minlength=classes).tolist()) != split.per_class:
        raise DamageError("its labels are not as frequent as the manifest says")
    if not np.array_equal(samples["index"], np.arange(split.samples)):
        raise DamageError("its indices are not in order")
    start = int(header["alloc_table_ptr"])
    if start + PLACE.itemsize * split.samples > size:
        raise DamageError("its table of images reaches beyond its end")
    file.seek(start)
    places = read(file, PLACE, split.samples)
    check_images(samples["image"], places, start)
    return Tables(samples, places)


def check_images(images: np.ndarray, places: np.ndarray, end: int) -> None:
    """Check that every image lies before ``end``, as large as its sides say."""
    if not np.array_equal(images["data_ptr"], places["ptr"]):
        raise DamageError("its two lists of where images lie differ")
    sizes, pointers = places["size"], places["ptr"]
    if (pointers > end).any() or (sizes > end).any() or (pointers + sizes > end).any():
        raise DamageError("an image reaches beyond its end")
    pixels = images["height"].astype(np.uint64) * images["width"]
    raw = images["mode"] == RAW
    if not np.isin(images["mode"], (JPEG, RAW)).all() or not pixels.all():
        raise DamageError("an image is neither raw nor a JPEG, or has no pixels")
    if not np.array_equal(3 * pixels[raw], sizes[raw]):
        raise DamageError("an image is not as large as its sides say")


def read(file: BinaryIO, kind: np.dtype, number: int) -> np.ndarray:
    """Read ``number`` records from where the file stands; ``DamageError`` where it ends before."""
    data = file.read(kind.itemsize * number)
    if len(data) < kind.itemsize * number:
        raise DamageError("it ends too early")
    return np.frombuffer(data, kind)


def field_table() -> np.ndarray:
    """Return the descriptions of the fields, from which FFCV finds their decoders."""
    descriptions = np.zeros(len(FIELDS), FIELD)
    for description, (name, kind) in zip(descriptions, FIELDS.items(), strict=True):
        description["type_id"] = kind
        description["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
    return descriptions
