"""What a ``.beton`` file says of itself, held against its size and the manifest.

FFCV believes a file's numbers: with wrong ones it reads outside its tables, or dies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.base import Field
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.types import (
    ALLOC_TABLE_TYPE,
    CURRENT_VERSION,
    TYPE_ID_HANDLER,
    FieldDescType,
    HeaderType,
    get_metadata_type,
)

from hdkd_dist.data.manifest import AGAIN, Split


def check_beton(path: Path, split: Split) -> None:
    """Raise ``ValueError`` if header, labels or table do not fit the file and the manifest.

    The images themselves are not read: that is what the manifest's sha256 is for.
    """
    try:
        with open(path, "rb") as file:
            check_tables(file, path.stat().st_size, split)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except DamageError as error:
        raise ValueError(f"{path} is damaged: {error}; {AGAIN}") from error


class DamageError(Exception):
    """Say what does not fit."""


def check_tables(file: BinaryIO, size: int, split: Split) -> None:
    """Check one table after the other; ``DamageError`` says what does not fit."""
    fields = {"image": RGBImageField(), "label": IntField(), "index": IntField()}
    header = read(file, HeaderType, 1)[0]
    if header["version"] != CURRENT_VERSION or header["num_fields"] != len(fields):
        raise DamageError("it does not begin as FFCV's files do")
    if header["num_samples"] != split.samples:
        raise DamageError(
            f"it says it has {header['num_samples']:,} images, the manifest {split.samples:,}"
        )
    expected = field_table(fields)
    if read(file, expected.dtype, len(expected)).tobytes() != expected.tobytes():
        raise DamageError("its fields are not image, label and index")
    metadata_type = get_metadata_type(list(fields.values()))
    if metadata_type.itemsize * split.samples > size:
        raise DamageError(f"{split.samples:,} images do not fit in it")
    images, labels, indices = read_columns(file, metadata_type, split.samples)
    classes = len(split.per_class)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= classes:
        raise DamageError(f"a label is none of the manifest's {classes} classes")
    if tuple(np.bincount(labels, minlength=classes).tolist()) != split.per_class:
        raise DamageError("its labels are not as frequent as the manifest says")
    if not np.array_equal(indices, np.arange(split.samples)):
        raise DamageError("its indices are not in order")
    start = int(header["alloc_table_ptr"])
    if start + ALLOC_TABLE_TYPE.itemsize * split.samples > size:
        raise DamageError("its table of images reaches beyond its end")
    file.seek(start)
    check_images(images, read(file, ALLOC_TABLE_TYPE, split.samples), start)


def read_columns(
    file: BinaryIO, kind: np.dtype, samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the images' records [N], labels [N] and indices [N]."""
    records = read(file, kind, samples)
    return records["f0"], records["f1"].reshape(-1), records["f2"].reshape(-1)


def check_images(images: np.ndarray, table: np.ndarray, end: int) -> None:
    """Check that every image lies before ``end``, as large as its sides say."""
    if not np.array_equal(images["data_ptr"], table["ptr"]):
        raise DamageError("its two lists of where images lie differ")
    sizes, pointers = table["size"], table["ptr"]
    if (pointers > end).any() or (sizes > end).any() or (pointers + sizes > end).any():
        raise DamageError("an image reaches beyond its end")
    pixels = images["height"].astype(np.uint64) * images["width"]
    raw = images["mode"] == IMAGE_MODES["raw"]
    if not np.isin(images["mode"], list(IMAGE_MODES.values())).all() or not pixels.all():
        raise DamageError("an image is neither raw nor a JPEG, or has no pixels")
    if not np.array_equal(3 * pixels[raw], sizes[raw]):
        raise DamageError("an image is not as large as its sides say")


def read(file: BinaryIO, kind: np.dtype, number: int) -> np.ndarray:
    """Read ``number`` records from where the file stands; ``DamageError`` where it ends before."""
    data = file.read(kind.itemsize * number)
    if len(data) < kind.itemsize * number:
        raise DamageError("it ends too early")
    return np.frombuffer(data, kind)


def field_table(fields: Mapping[str, Field]) -> np.ndarray:
    """Return FFCV's descriptions of ``fields``, from which a reader finds their decoders."""
    type_ids = {kind: number for number, kind in TYPE_ID_HANDLER.items()}
    descriptions = np.zeros(len(fields), FieldDescType)
    for description, (name, field) in zip(descriptions, fields.items(), strict=True):
        description["type_id"] = type_ids[type(field)]
        description["name"][: len(name)] = np.frombuffer(name.encode("ascii"), np.uint8)
        description["arguments"][:] = field.to_binary()[0]
    return descriptions
