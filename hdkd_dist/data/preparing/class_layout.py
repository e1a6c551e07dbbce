"""Which image of a source belongs to which part and class: the layouts that people have.

``train/<class>/…`` beside ``val/``, ``valid/`` or ``test/``, or class folders alone, with or
without folders around them; ImageNet's archives as they are downloaded, packed or unpacked;
Kaggle's ``ILSVRC/Data/CLS-LOC``; a held-out part without class folders but with a list of labels.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hdkd_dist.data.preparing.image_sources import File, Folder, find_folder, open_source
from hdkd_dist.data.preparing.image_survey import SHOWN, Survey
from hdkd_dist.data.preparing.label_lists import (
    IN_PART,
    classes_by_list,
    find_list,
    read_devkit,
    read_list,
)

TRAIN = ("train", "training", "ILSVRC2012_img_train")
HELD_OUT = ("val", "valid", "validation", "ILSVRC2012_img_val", "test", "testing")
KAGGLE = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC")


@dataclass(frozen=True)
class Labelled:
    """List image files and their labels [N], ordered by label and name."""

    part: str  # "train" or "val"
    classes: Sequence[str]
    files: list[File]
    labels: np.ndarray

    def name(self, position: int) -> str:
        """Return <part>/<class>/<path in the class's folder>, however the source is laid out."""
        label = self.classes[self.labels[position]]
        return posixpath.join(self.part, label, path_in_class(self.files[position], label))


@dataclass(frozen=True)
class ImageFolder:
    """Say what a source holds.

    Attributes:
        classes: their names, in order.
        train: the images to draw train and metaval from.
        test: the held-out part; None where a test split is to be drawn from ``train``.
        notes: what a user should know of how the source was read, in one line each.
    """

    classes: list[str]
    train: Labelled
    test: Labelled | None
    notes: list[str]

    @property
    def identity(self) -> dict[str, int | str]:
        """Return what tells one source from another: the same for any layout of equal files."""
        parts = [self.train, *([self.test] if self.test else [])]
        pairs = [
            (part.name(position), file.size)
            for part in parts
            for position, file in enumerate(part.files)
        ]
        digest = hashlib.sha256()
        for name, size in sorted(pairs):
            digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        return {"images": len(pairs), "names_and_sizes_sha256": digest.hexdigest()}


def read_layout(
    source: Folder,
    val_dir: str | None,
    val_labels: str | None,
    draw_test: bool,
    seen: Callable[[], None],
) -> ImageFolder:
    """Sort a source's images by part and class.

    Args:
        source: see ``open_source``.
        val_dir: the held-out part, a folder in the source or elsewhere; None looks for one.
        val_labels: a file that lists its labels; None looks for a known one.
        draw_test: the test split is drawn from the training part, so there need be no other.
        seen: called for each file.

    Raises:
        ValueError: an unknown layout, a class without images, or no held-out part.
    """
    survey = Survey(seen)
    places = folders_to_parts(source)
    root = places[-1]
    train = first_of(root, TRAIN)
    if not train and (first_of(root, HELD_OUT) or not root.folders):
        raise ValueError(
            f"there is no train/ with folders by class, and these are no classes either: "
            f"{names_in(root)}"
        )
    found = survey.classes_below(train or root)
    classes = sorted(found)
    check_classes(found, classes, train.path if train else root.path)
    test = None
    if draw_test and (val_dir or val_labels):
        raise ValueError("give --test_per_class or --val_dir, not both: there is one test split")
    if not draw_test:
        part = held_out_part(root, places, classes, val_dir, bool(train), survey)
        by_class = held_out_classes(part, places, classes, val_labels, survey)
        check_classes(by_class, classes, part.path)
        test = labelled("val", by_class, classes)
    return ImageFolder(
        classes,
        labelled("train", found, classes),
        test,
        [*survey.notes, *survey.left_out_note()],
    )


def folders_to_parts(source: Folder) -> list[Folder]:
    """Return the folders from the source to the one that holds the parts or the classes."""
    places = [source]
    while not first_of(places[-1], (*TRAIN, *HELD_OUT)):
        here = places[-1]
        inner = next((found for path in KAGGLE if (found := find_folder(here, path))), None)
        if inner is None and len(here.folders) == 1:
            (only,) = here.folders.values()
            inner = only if only.folders else None
        if inner is None:
            break
        places.append(inner)
    return places


def first_of(folder: Folder, names: Sequence[str]) -> Folder | None:
    """Return the first folder of one of ``names`` in ``folder``, or None."""
    return next((folder.folders[name] for name in names if name in folder.folders), None)


def names_in(folder: Folder) -> str:
    """Name what a folder holds."""
    names = [f"{name}/" for name in folder.folders] + list(folder.files)
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN]) or 'nothing'}{more}"


def held_out_part(
    root: Folder,
    places: Sequence[Folder],
    classes: Sequence[str],
    val_dir: str | None,
    parted: bool,
    survey: Survey,
) -> Folder:
    """Return the folder that becomes the test split.

    Raises:
        ValueError: there is none, or none whose labels are known.
    """
    if val_dir:
        return find_folder(root, val_dir.strip("/")) or open_source(
            val_dir, "--val_dir", name=val_dir
        )
    candidates = [root.folders[name] for name in HELD_OUT if name in root.folders and parted]
    if not candidates:
        raise ValueError(
            f"there is no held-out part to become the test split (val/, valid/ or test/) in "
            f"{names_in(root)}: name it by --val_dir, or draw one by --test_per_class"
        )
    known = [each for each in candidates if is_labelled(each, places, classes)]
    if len(known) > 1:
        survey.notes.append(
            f"{known[0].path}/ becomes the test split; {known[1].path}/ is not used "
            f"(--val_dir {posixpath.basename(known[1].path)} would take it instead)"
        )
    return (known or candidates)[0]


def is_labelled(part: Folder, places: Sequence[Folder], classes: Sequence[str]) -> bool:
    """Return whether a held-out part has class folders, or a list of labels that is about it."""
    if find_list([part], IN_PART) or by_folder(part, classes):
        return True
    lists = find_list(places) or read_devkit(places)
    return posixpath.basename(part.path) not in ("test", "testing") and bool(lists)


def by_folder(part: Folder, classes: Sequence[str]) -> bool:
    """Return whether the folders of a part are classes, perhaps with one folder around them."""
    inner = list(part.folders.values())
    known = set(classes)
    return not known.isdisjoint(part.folders) or (
        len(inner) == 1 and not known.isdisjoint(inner[0].folders)
    )


def held_out_classes(
    part: Folder,
    places: Sequence[Folder],
    classes: Sequence[str],
    val_labels: str | None,
    survey: Survey,
) -> dict[str, list[File]]:
    """Return the images of the held-out part by class, from their folders or a list."""
    given: File | tuple[str, str] | None = find_list([part], IN_PART)
    if val_labels:
        given = label_file(val_labels, places)
    elif not given and not by_folder(part, classes):
        given = find_list(places) or read_devkit(places)
    if given is None:
        return survey.classes_below(part)
    images = list(survey.images(part))
    if isinstance(given, File):
        found = read_list(given, images, classes)
    else:
        name, text = given
        found = classes_by_list(text, name, images, classes)
    by_class: dict[str, list[File]] = {}
    for file, label in found.items():
        by_class.setdefault(label, []).append(file)
    return by_class


def label_file(path: str, places: Sequence[Folder]) -> File:
    """Return the file that ``--val_labels`` names, in the source or elsewhere."""
    if found := find_list(places, (path,)):
        return found
    folder, _, name = posixpath.abspath(path).rpartition("/")
    try:
        return open_source(folder or "/", "--val_labels").files[name]
    except (KeyError, ValueError):
        raise ValueError(f"--val_labels {path} does not exist: name a list of labels") from None


def check_classes(found: dict[str, list[File]], classes: Sequence[str], where: str) -> None:
    """Raise ``ValueError`` where classes are missing, foreign, empty, or too few."""
    if not any(found.values()):
        raise ValueError(f"there are no images in {where or 'the source'}: add them")
    if empty := sorted(name for name in classes if not found.get(name)):
        raise ValueError(
            f"class {empty[0]!r} has no images in {where or 'the source'} ({len(empty)} such "
            "classes): add images, or remove the class from all parts"
        )
    if foreign := sorted(name for name in set(found) - set(classes) if found[name]):
        raise ValueError(f"class {foreign[0]!r} is in {where} but not in the training part")
    if len(classes) < 2:
        raise ValueError(
            f"there is one class only, {classes[0]!r} in {where or 'the source'}: images must lie "
            "in one folder per class, of two classes or more"
        )


def labelled(part: str, found: dict[str, list[File]], classes: Sequence[str]) -> Labelled:
    """Give each class its number, and put the files in order."""
    files: list[File] = []
    for label in classes:
        files += sorted(found[label], key=lambda file: path_in_class(file, label))
    counts = [len(found[label]) for label in classes]
    return Labelled(part, classes, files, np.repeat(np.arange(len(classes)), counts))


def path_in_class(file: File, label: str) -> str:
    """Return a file's path from the last folder of its class's name on, or its name alone."""
    parts = file.path.split("/")[:-1]
    if label not in parts:
        return file.name
    last = len(parts) - parts[::-1].index(label)
    return posixpath.join(*parts[last:], file.name)
