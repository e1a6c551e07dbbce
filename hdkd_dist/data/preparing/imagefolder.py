"""Data sets of image files in class folders: ImageNet, Imagenette, Tiny-ImageNet and the like."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hdkd_dist.data.decoding import decode_rgb, find_fault
from hdkd_dist.data.preparing.beton import Sample
from hdkd_dist.data.preparing.image_sources import File, FolderSource, TarSource
from hdkd_dist.data.preparing.workers import ordered_map, progress_bar
from hdkd_dist.data.preparing.write import draw_splits

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
ANNOTATIONS = "val/val_annotations.txt"  # Tiny-ImageNet's labels of val/images/
CHUNK = 32  # files per job


@dataclass(frozen=True)
class Labelled:
    """Image files and their labels [N], ordered by label and name."""

    files: list[File]
    labels: np.ndarray


@dataclass(frozen=True)
class ImageFolder:
    """What a source holds; ``val`` serves as the test split."""

    classes: list[str]
    train: Labelled
    val: Labelled
    identity: dict[str, int | str]


def read_layout(source: FolderSource | TarSource) -> ImageFolder:
    """Sort the source's images by part and class.

    Raises:
        ValueError: an unknown layout, a class without images, or no validation part.
    """
    images = [file for file in source.files if file.name.lower().endswith(SUFFIXES)]
    train = {file: class_folder(file.name) for file in images if file.name.startswith("train/")}
    in_val = [file for file in images if file.name.startswith("val/")]
    if not in_val:
        raise ValueError("there are no images in val/, which becomes the test split: add that part")
    annotations = [file for file in source.files if file.name == ANNOTATIONS]
    if annotations:
        val = annotated(in_val, source.read(annotations[0]).decode("utf-8"))
    else:
        val = {file: class_folder(file.name) for file in in_val}
    folders = {name.split("/")[1] for name in source.folders if name.startswith("train/")}
    classes = sorted(folders.union(train.values()))
    for part, found in (("train", set(train.values())), ("val", set(val.values()))):
        if missing := sorted(set(classes) - found):
            raise ValueError(
                f"class {missing[0]!r} has no images in {part}/ ({len(missing)} such classes): "
                f"add images or remove the class from train/ and val/"
            )
        if foreign := sorted(found - set(classes)):
            raise ValueError(f"class {foreign[0]!r} is in {part}/ but not in train/: remove it")
    digest = hashlib.sha256()
    for file in sorted([*images, *annotations]):
        digest.update(f"{file.name}\0{file.size}\n".encode("utf-8", "surrogateescape"))
    identity = {"images": len(images), "names_and_sizes_sha256": digest.hexdigest()}
    return ImageFolder(classes, labelled(train, classes), labelled(val, classes), identity)


def class_folder(name: str) -> str:
    """Return the folder below train/ or val/ that an image lies in."""
    parts = name.split("/")
    if len(parts) < 3:
        raise ValueError(
            f"unknown layout: {name} lies directly in {parts[0]}/, but images must lie in folders "
            f"by class (or, in val/, have a {ANNOTATIONS} as in Tiny-ImageNet)"
        )
    return parts[1]


def annotated(val: Iterable[File], text: str) -> dict[File, str]:
    """Return the classes that Tiny-ImageNet's list (file, class, box; by tabs) gives to images."""
    classes = dict(line.split("\t")[:2] for line in text.splitlines() if "\t" in line)
    found = {file: classes.get(posixpath.basename(file.name)) for file in val}
    if missing := [file.name for file, label in found.items() if label is None]:
        raise ValueError(f"{ANNOTATIONS} does not list {missing[0]} ({len(missing)} such images)")
    return {file: label for file, label in found.items() if label is not None}


def labelled(files: dict[File, str], classes: Sequence[str]) -> Labelled:
    """Number the classes and put the files in order."""
    numbers = {label: number for number, label in enumerate(classes)}
    ordered = sorted((numbers[label], file) for file, label in files.items())
    labels = np.array([number for number, _ in ordered], np.int64)
    return Labelled([file for _, file in ordered], labels)


def find_faulty(
    source: FolderSource | TarSource,
    files: Sequence[File],
    positions: Sequence[int],
    max_side: int | None,
    workers: int,
) -> dict[int, str]:
    """Decode the files at ``positions`` and return what is wrong with those that are unusable."""

    def check(chunk: Sequence[int]) -> list[str | None]:
        return [find_fault(source.read(files[position]), max_side) for position in chunk]

    faulty: dict[int, str] = {}
    chunks = [positions[i : i + CHUNK] for i in range(0, len(positions), CHUNK)]
    with progress_bar(len(positions), "checking") as progress:
        for chunk, faults in zip(chunks, ordered_map(check, chunks, workers), strict=True):
            faulty |= {p: fault for p, fault in zip(chunk, faults, strict=True) if fault}
            progress.update(len(chunk))
    return faulty


def draw_usable(
    source: FolderSource | TarSource,
    folder: ImageFolder,
    per_class: int | None,
    metaval_per_class: int,
    seed: int,
    max_side: int | None,
    workers: int,
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Draw train and metaval from the files that decode; a bad one is replaced by the next.

    Returns:
        train, metaval: positions in ``folder.train``; and the faults of the unusable ones.
    """
    faulty: dict[int, str] = {}
    checked: set[int] = set()
    while True:
        train, metaval = draw_splits(
            folder.train.labels, per_class, metaval_per_class, seed, folder.classes, faulty
        )
        fresh = sorted({*train.tolist(), *metaval.tolist()} - checked)
        if not fresh:
            return train, metaval, faulty
        faulty |= find_faulty(source, folder.train.files, fresh, max_side, workers)
        checked.update(fresh)


class FileSamples:
    """Part of a set of image files, decoded when asked for."""

    def __init__(
        self, source: FolderSource | TarSource, images: Labelled, positions: Sequence[int]
    ) -> None:
        """Take the images at ``positions``."""
        self.source = source
        self.images = images
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        position = self.positions[index]
        file = self.images.files[position]
        try:
            image = decode_rgb(self.source.read(file))
        except Exception as error:
            raise ValueError(f"{file.name}: {error}") from error
        return image, int(self.images.labels[position])
