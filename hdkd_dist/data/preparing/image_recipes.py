"""How images of files are augmented and normalised in training: choices noted when prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from hdkd_dist.data.decoding import open_image
from hdkd_dist.data.preparing.channel_statistics import channel_statistics
from hdkd_dist.data.preparing.imagefolder import FileSamples
from hdkd_dist.data.preparing.workers import ordered_map, progress_bar

SMALL = 64  # pixels a side
SHIFT = 8  # images are moved by an eighth of their side, as CIFAR's 32 px are by 4
# Per channel, of ImageNet's training set.
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]

Splits: TypeAlias = Mapping[str, FileSamples]
Recipe: TypeAlias = "tuple[int | None, dict[str, Any]]"  # size of all images, augmentation
Choice = TypeVar("Choice")


def crop_recipe(splits: Splits, workers: int) -> Recipe:
    """Return random crops of random sizes, mirrored or not, as ImageNet is trained on."""
    return None, {"flip": True, "resized_crop": True}


def shift_recipe(splits: Splits, workers: int) -> Recipe:
    """Return shifts, mirrored or not, as CIFAR is trained on.

    Raises:
        ValueError: images that are not square, of several sizes, or larger than ``SMALL``.
    """
    sides = measure_sides(splits, workers)
    side, first = sides[0]
    if side[0] != side[1] or side[0] > SMALL:
        raise ValueError(
            f"--recipe shift is for square images of at most {SMALL} pixels, but {first} has "
            f"{side[0]}×{side[1]}: use --recipe crop"
        )
    if other := next((row for row in sides if row[0] != side), None):
        (width, height), name = other
        raise ValueError(
            f"--recipe shift is for images of one size, but {first} has {side[0]}×{side[1]} pixels "
            f"and {name} {width}×{height}: use --recipe crop"
        )
    return side[0], {"flip": True, "translate": side[0] // SHIFT}


def measure_sides(splits: Splits, workers: int) -> list[tuple[tuple[int, int], str]]:
    """Return width and height of every image, from its header, and the image's name."""
    found = []
    for split, samples in splits.items():
        images = samples.images

        def sides(position: int, images=images) -> tuple[int, int]:
            return open_image(images.files[position].read()).size

        positions = [int(position) for position in samples.positions]
        with progress_bar(len(positions), f"measuring {split}") as progress:
            for position, size in zip(
                positions, ordered_map(sides, positions, workers), strict=True
            ):
                found.append((size, images.name(position)))
                progress.update()
    return found


def imagenet_normalisation(train: FileSamples, workers: int) -> tuple[list[float], list[float]]:
    """Return ImageNet's mean and deviation, the field's choice for photographs."""
    return MEAN, STD


def own_normalisation(train: FileSamples, workers: int) -> tuple[list[float], list[float]]:
    """Return mean and deviation of the training images, as they are before any shrinking."""
    decoded = FileSamples(train.images, train.positions, replace(train.options, keep_jpegs=False))
    return channel_statistics(decoded, workers)


RECIPES = {"crop": crop_recipe, "shift": shift_recipe}
NORMALISATIONS = {"imagenet": imagenet_normalisation, "own": own_normalisation}


def choose(flag: str, name: object, choices: Mapping[str, Choice]) -> Choice:
    """Return the choice of that name; ``ValueError`` names the others."""
    if not isinstance(name, str) or name not in choices:
        raise ValueError(f"{flag} is {name!r}: choose one of {', '.join(choices)}")
    return choices[name]
