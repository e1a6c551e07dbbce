"""The one place that draws splits and writes prepared data sets."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hdkd_dist.data import manifest as manifests
from hdkd_dist.data.beton import read_labels
from hdkd_dist.data.manifest import ImageFormat, Manifest, Split, read_manifest
from hdkd_dist.data.preparing.beton import FieldOptions, Samples, write_beton
from hdkd_dist.data.staging import publish, staging_folder

LARGE_SHARE = 0.25  # of the images, for meta-validation


def draw_splits(
    labels: Sequence[int] | np.ndarray,
    per_class: int | None,
    metaval_per_class: int,
    seed: int,
    classes: Sequence[str] | None = None,
    excluded: Collection[int] = (),
    held_out: str = "metaval",
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a training and a meta-validation split, stratified by class.

    Each class is shuffled by a generator of its own, from the seed and the class's number; its
    first images are the meta-validation images and the next ones train. Hence the drawing for a
    class does not depend on other classes, the meta-validation images are the same for every
    ``per_class``, and the images of a smaller ``per_class`` are among those of a larger one.

    Args:
        labels: [N] class numbers.
        per_class: X images of each class *including* the meta-validation images (CIFAR(500) is
            450 + 50); None takes all.
        metaval_per_class: how many of them are for meta-validation.
        seed: of the shuffling.
        classes: their names, for messages; also says how many classes there are.
        excluded: positions that are not drawn (corrupt images); the next ones of the class move up
            and no other image moves.
        held_out: what the images of the second kind are for, "metaval" or "test".

    Returns:
        train, metaval: positions, ascending, int64.

    Raises:
        ValueError: numbers that make no sense, or a class with too few images.
    """
    check_whole("seed", seed, 0)
    flag = f"{held_out}_per_class"
    check_whole(flag, metaval_per_class, 0 if held_out == "metaval" else 1)
    if per_class is not None and check_whole("per_class", per_class, 1) <= metaval_per_class:
        raise ValueError(
            f"per_class is {per_class} and includes {flag} = {metaval_per_class}: "
            f"no image is left to train on; raise per_class or lower {flag}"
        )
    labels = np.asarray(labels)
    usable = np.ones(len(labels), bool)
    usable[np.fromiter(excluded, np.int64, len(excluded))] = False
    number = len(classes) if classes is not None else int(labels.max(initial=-1)) + 1
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.searchsorted(labels[order], np.arange(1, number)))
    needed = per_class if per_class is not None else metaval_per_class + 1
    train, metaval = [], []
    for label, positions in enumerate(members):
        shuffled = np.random.default_rng([seed, label]).permutation(positions)
        shuffled = shuffled[usable[shuffled]]
        if len(shuffled) < needed:
            name = classes[label] if classes is not None else label
            bad = len(positions) - len(shuffled)
            raise ValueError(
                f"class {name!r} has {len(shuffled)} usable images"
                + (f" ({bad} corrupt)" if bad else "")
                + f", but {needed} are needed ({metaval_per_class} of them for {held_out}): "
                f"lower --per_class or --{flag}"
            )
        metaval.append(shuffled[:metaval_per_class])
        train.append(shuffled[metaval_per_class:per_class])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(metaval))


def find_undrawn(samples: int, *drawn: np.ndarray) -> np.ndarray:
    """Return those positions of 0..``samples`` that are in none of ``drawn``, ascending, int64."""
    return np.setdiff1d(np.arange(samples), np.concatenate(drawn))


def check_whole(option: str, value: object, least: int) -> int:
    """Return ``value`` if it is a whole number of at least ``least``, else ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"--{option} is {value!r}: it must be a whole number, at least {least}")
    return value


def find_finished(out: str | os.PathLike[str], job: Mapping[str, Any]) -> Manifest | None:
    """Return the manifest if ``out`` already holds what ``job`` asks for, None if it is free.

    Raises:
        ValueError: ``out`` holds another job's data set, a damaged one, or something else.
    """
    out = Path(out)
    mend = "choose another --out, or remove the folder"
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / manifests.FILE_NAME).is_file():
        raise ValueError(f"{out} exists and is not a prepared data set: {mend}")
    found = read_manifest(out)
    asked = json.loads(json.dumps(job))
    keys = [key for key in {**asked, **found.job} if asked.get(key) != found.job.get(key)]
    if keys:
        differences = ", ".join(
            f"{key} ({found.job.get(key)!r} there, {asked.get(key)!r} asked for)" for key in keys
        )
        raise ValueError(f"{out} holds a data set prepared otherwise: {differences}; {mend}")
    return found


def write_data_set(
    out: str | os.PathLike[str],
    job: Mapping[str, Any],
    splits: Mapping[str, Samples],
    *,
    name: str,
    classes: Sequence[str],
    image: ImageFormat,
    augmentation: Mapping[str, Any],
    options: FieldOptions,
    workers: int = 1,
    skipped: Sequence[str] = (),
) -> Manifest:
    """Write the splits and their manifest to ``out``, which appears complete or not at all.

    Args:
        out: the new folder. If it already holds the same job, nothing is done.
        job: everything that determines the content; compared with the manifest's.
        splits: train, metaval (unused where the job has ``metaval_per_class`` 0), test and perhaps
            extra; each a sequence of samples.
        name, classes, image, augmentation, skipped: for the manifest, see ``Manifest``.
        options: how images are stored.
        workers: processes that encode; the content does not depend on it.

    Raises:
        ValueError: ``out`` holds something else, or writing failed; nothing is left behind then.
    """
    out = Path(out).absolute()
    if finished := find_finished(out, job):
        print(f"{out} is already prepared as asked: nothing to do")
        return finished
    if len(classes) < manifests.LEAST_CLASSES:
        raise ValueError(f"there is no second class beside {', '.join(classes)}: give two or more")
    left_out = {manifests.METAVAL} if job.get("metaval_per_class") == 0 else set()
    names = manifests.in_order(set(splits) - left_out)
    if empty := [split for split in names if len(splits[split]) == 0]:
        raise ValueError(f"the {empty[0]} split of {out} would be empty: give it images")
    with staging_folder(out) as folder:
        written = {}
        for split in names:
            path = folder / f"{split}.beton"
            write_beton(path, splits[split], options, workers)
            written[split] = describe(path, len(classes))
        manifests.write(
            Manifest(
                folder=folder,
                name=name,
                job=job,
                classes=tuple(classes),
                image=image,
                augmentation=augmentation,
                splits=written,
                skipped=tuple(skipped),
            )
        )
        published = publish(folder, out)
    finished = find_finished(out, job)
    if finished is None:
        raise ValueError(f"{out} was removed while it was being written: start again")
    if not published:
        print(f"{out} was prepared by another process meanwhile: using that one")
    return finished


def summary(manifest: Manifest) -> str:
    """Say in one line what is in a data set."""
    counts = ", ".join(f"{split} {found.samples:,}" for split, found in manifest.splits.items())
    return f"{manifest.folder}: {manifest.name}, {len(manifest.classes)} classes, images: {counts}"


def note_large_metaval(manifest: Manifest) -> list[str]:
    """Return a note where meta-validation takes more than ``LARGE_SHARE`` of the images."""
    counts = {name: split.samples for name, split in manifest.splits.items()}
    metaval = counts.get(manifests.METAVAL, 0)
    share = metaval / (counts["train"] + metaval)
    if share <= LARGE_SHARE:
        return []
    return [
        f"meta-validation has {share:.0%} of the images that are not for testing, and the network "
        "is not trained on them: a lower --metaval_per_class leaves more"
    ]


def say(manifest: Manifest, notes: Sequence[str] = ()) -> None:
    """Print a summary, and on stderr what a user should know."""
    print(summary(manifest))
    for note in [*notes, *note_large_metaval(manifest)]:
        print(f"note: {note}", file=sys.stderr)


def describe(path: Path, classes: int) -> Split:
    """Describe the finished file as the manifest does, from what it holds."""
    labels = read_labels(path)
    return Split(
        file=path.name,
        samples=len(labels),
        bytes=path.stat().st_size,
        sha256=manifests.sha256_of(path),
        per_class=tuple(np.bincount(labels, minlength=classes).tolist()),
    )
