"""The classes of images that lie in no class folders: lists beside them, as the field has them."""

from __future__ import annotations

import io
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hdkd_dist.data.preparing.image_sources import File, Folder, find_folder

IN_PART = ("val_annotations.txt",)  # Tiny-ImageNet's, in val/
BESIDE = (
    "LOC_val_solution.csv",  # Kaggle's ImageNet
    "imagenet_2012_validation_synset_labels.txt",  # TensorFlow's: a WordNet id per line
    "valprep.sh",  # PyTorch's: mv FILE CLASS/
    "val.txt",  # Caffe's: file and number of the class
)
DEVKITS = ("ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t3")
TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
SYNSETS = "data/meta.mat"
LARGEST = 1 << 26  # bytes of a list; the longest of ImageNet's has 2 MB
EXPECTED = ", ".join((*IN_PART, *BESIDE, f"{DEVKITS[0]}.tar.gz"))


def find_list(places: Sequence[Folder], names: Sequence[str] = BESIDE) -> File | None:
    """Return the first list of one of ``names`` that lies in one of the folders."""
    found = (folder.files.get(name) for folder in places for name in names)
    return next((file for file in found if file), None)


def read_list(file: File, images: Sequence[File], classes: Sequence[str]) -> dict[File, str]:
    """Return the class of each image by a list; see :func:`classes_by_list`."""
    if file.size > LARGEST:
        raise ValueError(f"{file.path} has {file.size:,} bytes: it is no list of labels")
    return classes_by_list(file.read().decode("utf-8", "replace"), file.path, images, classes)


def classes_by_list(
    text: str, name: str, images: Sequence[File], classes: Sequence[str]
) -> dict[File, str]:
    """Return the class of each image.

    A line names file and class (parted by spaces, tabs or commas; more may follow; Kaggle leaves
    the suffix out; ``valprep.sh`` has ``mv`` before them), or just the class of the next file in
    the order of their names. A class is a name, or its number from 0 on in the order of names.

    Raises:
        ValueError: an image is not listed, or its class is none of ``classes``.
    """
    rows = [re.split(r"[,\s]+", line.strip()) for line in text.splitlines() if line.strip()]
    rows = [row[1:] if row[0] == "mv" else row for row in rows]
    ordered = sorted(images, key=lambda file: file.name)
    if all(len(row) == 1 for row in rows):
        if len(rows) != len(images):
            raise ValueError(f"{name} lists {len(rows)} images, but there are {len(images)}")
        listed = {file.name: row[0] for file, row in zip(ordered, rows, strict=True)}
    else:
        listed = {posixpath.basename(row[0]): row[1] for row in rows if len(row) > 1}
    found = {}
    for file in ordered:
        label = listed.get(file.name, listed.get(posixpath.splitext(file.name)[0]))
        if label is None:
            raise ValueError(f"{name} does not list {file.path}")
        found[file] = label.strip("/")
    if not set(found.values()) <= set(classes):
        found = by_number(found, name, classes)
    return found


def by_number(found: dict[File, str], name: str, classes: Sequence[str]) -> dict[File, str]:
    """Replace numbers of classes by their names."""
    foreign = next(label for label in found.values() if label not in classes)
    numbers = {label: int(label) for label in set(found.values()) if label.isdecimal()}
    if len(numbers) < len(set(found.values())) or max(numbers.values()) >= len(classes):
        raise ValueError(
            f"{name} has the class {foreign!r}, which is none of the {len(classes)} in the "
            f"training part ({', '.join(classes[:3])}, …)"
        )
    if min(numbers.values()):
        raise ValueError(f"{name} numbers the classes from {min(numbers.values())}, not from 0")
    return {file: classes[numbers[label]] for file, label in found.items()}


def read_devkit(places: Sequence[Folder]) -> tuple[str, str] | None:
    """Return name and text of a list of WordNet ids that ImageNet's development kit gives.

    It is found packed or unpacked; None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    for place in places:
        for kit in DEVKITS:
            packed, unpacked = place.files.get(f"{kit}.tar.gz"), find_folder(place, kit)
            if unpacked:
                content = dict(unpacked_members(unpacked))
            elif packed:
                content = dict(packed_members(packed))
            else:
                continue
            if missing := [name for name in (TRUTH, SYNSETS) if name not in content]:
                raise ValueError(f"{kit} is damaged: there is no {missing[0]} in it")
            ids = synsets_by_number(content[SYNSETS], kit)
            numbers = content[TRUTH].decode("ascii", "replace").split()
            if foreign := [number for number in numbers if number not in ids]:
                raise ValueError(f"{kit} is damaged: {foreign[0]!r} is no number of a class")
            return f"{kit}/{TRUTH}", "\n".join(ids[number] for number in numbers)
    return None


def unpacked_members(kit: Folder) -> Iterator[tuple[str, bytes]]:
    """Yield the two files of an unpacked kit that are there; its folder may be doubled."""
    for root in (kit, find_folder(kit, posixpath.basename(kit.path))):
        data = root.folders.get("data") if root else None
        for name in (TRUTH, SYNSETS):
            file = data.files.get(posixpath.basename(name)) if data else None
            if file and file.size <= LARGEST:
                yield name, file.read()


def packed_members(kit: File) -> Iterator[tuple[str, bytes]]:
    """Yield the two files of a packed kit that are there."""
    try:
        with tarfile.open(fileobj=io.BytesIO(kit.read()), mode="r:*") as archive:
            for entry in archive:
                name = "/".join(Path(entry.name).parts[-2:])
                if entry.isreg() and name in (TRUTH, SYNSETS) and entry.size <= LARGEST:
                    file = archive.extractfile(entry)
                    assert file is not None
                    yield name, file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"cannot read {kit.path}, truncated or damaged ({error})") from error


def synsets_by_number(meta: bytes, kit: str) -> dict[str, str]:
    """Return the WordNet id of each ILSVRC2012_ID in the kit's ``meta.mat``."""
    from scipy.io import loadmat  # 0.3 s, needed here alone

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        pairs = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        return {str(int(number)): str(wnid) for number, wnid in pairs}
    except Exception as error:  # scipy raises nearly anything on bad data
        raise ValueError(f"cannot read {SYNSETS} of {kit}: {error}") from error
