"""CIFAR-10 and CIFAR-100 from the official archives (Krizhevsky 2009), running no pickle's code."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdkd_dist.data.manifest import EXTRA, METAVAL, Manifest
from hdkd_dist.data.preparing.array_pickle import unpickle_arrays
from hdkd_dist.data.preparing.beton import ArraySamples, FieldOptions
from hdkd_dist.data.preparing.write import check_whole, draw_splits, find_undrawn, write_data_set

SIDE = 32
LARGEST = 1 << 28  # bytes of an archive's member; the official ones have at most 155 MB


@dataclass(frozen=True)
class Archive:
    """Describe an official archive, and its constants.

    Attributes:
        title: the data set's name in messages.
        file: the archive.
        folder: to which it unpacks.
        train: the members with training images.
        test: the member with test images.
        meta: the member with the names of classes.
        labels: the key of labels in the members.
        names: the key of the names in ``meta``.
        mean: per channel, of the official training set, in 0..1.
        std: the same, the standard deviation.
    """

    title: str
    file: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: bytes
    names: bytes
    mean: list[float]
    std: list[float]

    @property
    def members(self) -> tuple[str, ...]:
        """Return the names of all members that are read."""
        return (*self.train, self.test, self.meta)

    @property
    def where(self) -> str:
        """Say where it can be had."""
        return f"download {self.file} anew from https://www.cs.toronto.edu/~kriz/cifar.html"


ARCHIVES = {
    "cifar10": Archive(
        title="CIFAR-10",
        file="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        meta="batches.meta",
        labels=b"labels",
        names=b"label_names",
        mean=[0.4914, 0.4822, 0.4465],
        std=[0.2470, 0.2435, 0.2616],
    ),
    "cifar100": Archive(
        title="CIFAR-100",
        file="cifar-100-python.tar.gz",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        meta="meta",
        labels=b"fine_labels",
        names=b"fine_label_names",
        mean=[0.5071, 0.4865, 0.4409],
        std=[0.2673, 0.2564, 0.2762],
    ),
}


@dataclass(frozen=True)
class Cifar:
    """Hold an archive's content: images [N,32,32,3] uint8, labels [N] int64, class names.

    ``identity`` holds the sha256 of the archive's members; it is the same for the unpacked folder.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: list[str]
    identity: dict[str, str]


def prepare_cifar(
    name: str,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    per_class: int | None,
    metaval_per_class: int,
    seed: int,
    workers: int,
    extra: bool,
) -> Manifest:
    """Write the data set to ``out`` unless it is there.

    Args:
        name: a key of ``ARCHIVES``.
        source: the archive, or the folder it unpacks to.
        out: folder of the data set; appears complete or not at all.
        per_class: images per class for train and metaval together; None takes all.
        metaval_per_class: images per class for meta-validation.
        seed: of the drawing.
        workers: processes; one is enough for images this small.
        extra: all other training images become a fourth split that is never trained on.

    Raises:
        ValueError: a bad archive, numbers it cannot serve, or ``out`` holds something else.
    """
    archive = ARCHIVES[name]
    data = read_cifar(source, archive)
    images, labels = data.train_images, data.train_labels
    train, metaval = draw_splits(labels, per_class, metaval_per_class, seed, data.classes)
    undrawn = find_undrawn(len(labels), train, metaval)
    if extra and not len(undrawn):
        raise ValueError("--extra true leaves no image for that split: give a lower --per_class")
    splits = {
        "train": ArraySamples(images, labels, train),
        METAVAL: ArraySamples(images, labels, metaval),
        "test": ArraySamples(data.test_images, data.test_labels, range(len(data.test_labels))),
    }
    if extra:
        splits[EXTRA] = ArraySamples(images, labels, undrawn)
    return write_data_set(
        out,
        job={
            "data": name,
            "per_class": per_class,
            "metaval_per_class": metaval_per_class,
            "seed": seed,
            "source_sha256": data.identity,
            "extra": extra or None,  # None is what older data sets were prepared with
        },
        splits=splits,
        name=name,
        classes=data.classes,
        image={"size": SIDE, "mean": archive.mean, "std": archive.std},
        augmentation={"flip": True, "translate": 4},
        options=FieldOptions(write_mode="raw"),
        workers=check_whole("workers", workers, 1),
    )


def read_cifar(source: str | os.PathLike[str], archive: Archive) -> Cifar:
    """Read an official archive, or the folder it unpacks to.

    Raises:
        ValueError: missing, truncated, foreign or hostile content.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"--source {source} does not exist: {archive.where}")
    identity, content = {}, {}
    members = folder_members if source.is_dir() else archive_members
    for member, data in members(source, archive):
        identity[member] = hashlib.sha256(data).hexdigest()
        try:
            content[member] = unpickle_arrays(data)
        except Exception as error:  # malformed pickles raise nearly anything
            raise ValueError(
                f"cannot read {member} in {source}: {error}; {archive.where}"
            ) from error
    if missing := [member for member in archive.members if member not in content]:
        raise ValueError(
            f"{source} is not {archive.title}: no {', '.join(missing)} in it; {archive.where}"
        )
    try:
        classes = [name.decode("ascii") for name in content[archive.meta][archive.names]]
        parts = [(content[member], archive.labels, len(classes)) for member in archive.train]
        images, labels = zip(*(images_and_labels(*part) for part in parts), strict=True)
        test = images_and_labels(content[archive.test], archive.labels, len(classes))
    except Exception as error:
        raise ValueError(
            f"{source} does not hold what the official archive of {archive.title} holds "
            f"({type(error).__name__}: {error}): {archive.where}"
        ) from error
    return Cifar(np.concatenate(images), np.concatenate(labels), *test, classes, identity)


def folder_members(source: Path, archive: Archive) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in the unpacked folder, or in the folder around it."""
    inner = source / archive.folder
    folder = inner if inner.is_dir() else source
    for member in archive.members:
        if (folder / member).is_file():
            check_member(member, (folder / member).stat().st_size, source, archive)
            try:
                yield member, (folder / member).read_bytes()
            except OSError as error:
                raise ValueError(f"cannot read {folder / member}: {error.strerror}") from error


def archive_members(source: Path, archive: Archive) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the archive's members, in one pass."""
    if not source.is_file():  # a pipe would be waited for, a device read without end
        raise ValueError(f"{source} is no regular file: {archive.where}")
    try:
        with tarfile.open(source, "r:*") as opened:
            for entry in opened:
                member = Path(entry.name).name
                if entry.isfile() and member in archive.members:
                    check_member(member, entry.size, source, archive)
                    file = opened.extractfile(entry)
                    assert file is not None
                    yield member, file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        detail = str(error).splitlines()[0].rstrip(":")
        raise ValueError(
            f"cannot read {source}, truncated or not the archive ({detail}): {archive.where}"
        ) from error


def check_member(member: str, size: int, source: Path, archive: Archive) -> None:
    """Raise ``ValueError`` for a member that is larger than any official one."""
    if size > LARGEST:
        raise ValueError(
            f"{member} in {source} has {size:,} bytes, more than any in {archive.title}: "
            f"{archive.where}"
        )


def images_and_labels(
    content: dict[bytes, Any], key: bytes, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N,32,32,3] uint8 and labels [N] int64 of one member."""
    planes = content[b"data"].array().reshape(-1, 3, SIDE, SIDE)
    labels = np.array(content[key], np.int64)
    if len(labels) != len(planes) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError("images and labels do not fit together")
    return planes.transpose(0, 2, 3, 1), labels
