"""Data sets of image files by class: drawing the splits, checking and decoding the files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from hdkd_dist.data.decoding import decode_rgb, find_fault
from hdkd_dist.data.preparing.beton import FieldOptions, Sample, jpeg_as_it_is
from hdkd_dist.data.preparing.class_layout import ImageFolder, Labelled
from hdkd_dist.data.preparing.workers import ordered_map, progress_bar
from hdkd_dist.data.preparing.write import draw_splits

CHUNK = 32  # files per job
TEST_SEED = 0  # the test split is the same whatever the seed: it stands for an official one


@dataclass(frozen=True)
class Wanted:
    """Say how many images of each class are drawn for what.

    Attributes:
        per_class: for train and metaval together; None takes all.
        metaval_per_class: for meta-validation.
        test_per_class: for a test split out of the training part; None where there is another.
        seed: of the drawing of train and metaval.
    """

    per_class: int | None
    metaval_per_class: int
    test_per_class: int | None
    seed: int

    def draw(
        self, part: Labelled, excluded: Collection[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the positions of train, metaval and test (perhaps none) in the training part."""
        labels, classes = part.labels, part.classes
        pool, test = np.arange(len(labels)), np.empty(0, np.int64)
        if self.test_per_class is not None:
            pool, test = draw_splits(
                labels, None, self.test_per_class, TEST_SEED, classes, excluded, "test"
            )
        places = np.full(len(labels), -1)
        places[pool] = np.arange(len(pool))
        unusable = [int(places[position]) for position in excluded if places[position] >= 0]
        train, metaval = draw_splits(
            labels[pool], self.per_class, self.metaval_per_class, self.seed, classes, unusable
        )
        return pool[train], pool[metaval], test


@dataclass(frozen=True)
class Drawn:
    """Hold positions in the training part (for test in the held-out one, if there is one).

    ``faults`` says by canonical name what is wrong with files that were left out.
    """

    train: np.ndarray
    metaval: np.ndarray
    test: np.ndarray
    faults: dict[str, str] = field(default_factory=dict)


def find_faulty(
    part: Labelled, positions: Sequence[int], max_side: int | None, workers: int
) -> dict[int, str]:
    """Decode the files at ``positions`` and return what is wrong with those that are unusable."""

    def check(chunk: Sequence[int]) -> list[str | None]:
        return [find_fault(part.files[position].read(), max_side) for position in chunk]

    faulty: dict[int, str] = {}
    chunks = [positions[i : i + CHUNK] for i in range(0, len(positions), CHUNK)]
    with progress_bar(len(positions), "checking") as progress:
        for chunk, faults in zip(chunks, ordered_map(check, chunks, workers), strict=True):
            faulty |= {p: fault for p, fault in zip(chunk, faults, strict=True) if fault}
            progress.update(len(chunk))
    return faulty


def draw_usable(folder: ImageFolder, wanted: Wanted, max_side: int | None, workers: int) -> Drawn:
    """Draw the splits from the files that decode; a bad one is replaced by the next.

    Raises:
        ValueError: a class has too few.
    """
    faulty: dict[int, str] = {}
    checked: set[int] = set()
    while True:
        train, metaval, test = wanted.draw(folder.train, faulty)
        fresh = sorted({*train.tolist(), *metaval.tolist(), *test.tolist()} - checked)
        if not fresh:
            break
        faulty |= find_faulty(folder.train, fresh, max_side, workers)
        checked.update(fresh)
    faults = {folder.train.name(position): fault for position, fault in faulty.items()}
    if folder.test:
        every = range(len(folder.test.files))
        unusable = find_faulty(folder.test, every, max_side, workers)
        faults |= {folder.test.name(position): fault for position, fault in unusable.items()}
        test = np.array([position for position in every if position not in unusable], np.int64)
    return Drawn(train, metaval, test, dict(sorted(faults.items())))


class FileSamples:
    """Give part of a set of image files, decoded when asked for.

    A JPEG that is stored as JPEG, and need be neither shrunk nor turned, comes as it is.
    """

    def __init__(
        self, images: Labelled, positions: Sequence[int] | np.ndarray, options: FieldOptions
    ) -> None:
        """Take the images at ``positions``, to be stored by ``options``."""
        self.images = images
        self.positions = positions
        self.options = options

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        position = self.positions[index]
        file, label = self.images.files[position], int(self.images.labels[position])
        try:
            data = file.read()
            return jpeg_as_it_is(data, self.options) or decode_rgb(data), label
        except Exception as error:
            raise ValueError(f"{file.path}: {error}") from error
