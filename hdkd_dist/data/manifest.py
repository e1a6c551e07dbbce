"""The manifest of a prepared data set: what is in the folder, where it came from, how to read it.

Standard library only, so that any machine can read it; FFCV is needed for the images alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, TypedDict

FORMAT = 1
FILE_NAME = "manifest.json"
SPLITS = ("train", "metaval", "test")  # what identifies a data set
EXTRA = "extra"  # a split that is never trained on: a second test split from the training images
METAVAL = "metaval"  # left out on request: then all images train, and γ cannot learn
LEAST_CLASSES = 2
AGAIN = "remove the folder and prepare the data set again"


EMBEDDED = "digits"  # the name of the data set that needs no download


def data_folder(data: str) -> Path:
    """Find the folder that a run's ``data`` setting names: itself, or the embedded data set's."""
    return Path("data", EMBEDDED) if data == EMBEDDED else Path(data)


class ImageFormat(TypedDict):
    """``size``: side in pixels, None where sizes vary; ``mean``, ``std``: per channel, in 0..1."""

    size: int | None
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Split:
    """One ``.beton`` file: its name in the folder, size in bytes, and images per class."""

    file: str
    samples: int
    bytes: int
    sha256: str
    per_class: tuple[int, ...]


@dataclass(frozen=True)
class Manifest:
    """A prepared data set.

    Attributes:
        folder: where it lies (not part of the file).
        name: what reports call the data set.
        job: everything that was asked for when it was prepared, and the source's identity.
        classes: their names; a label is a position in this list.
        image: size and normalisation constants, see ``ImageFormat``.
        augmentation: ``{"flip": bool, "translate": pixels}`` or
            ``{"flip": True, "resized_crop": True}``.
        splits: ``"train"``, ``"metaval"`` (not where ``metaval_per_class`` was 0), ``"test"``, and
            ``"extra"`` where it was asked for.
        skipped: names of corrupt source files that were left out.
    """

    folder: Path
    name: str
    job: Mapping[str, Any]
    classes: tuple[str, ...]
    image: ImageFormat
    augmentation: Mapping[str, Any]
    splits: Mapping[str, Split]
    skipped: tuple[str, ...] = field(default=())

    @property
    def identity(self) -> dict[str, str]:
        """Return the sha256 of train, metaval and test: equal where results can be compared."""
        return {name: split.sha256 for name, split in self.splits.items() if name != EXTRA}

    @property
    def digest(self) -> str:
        """Return twelve hexadecimal digits of ``identity``."""
        whole = "".join(self.identity[name] for name in SPLITS if name in self.splits)
        return hashlib.sha256(whole.encode()).hexdigest()[:12]

    def path(self, split: str) -> Path:
        """Return the ``.beton`` file of ``split``; ``ValueError`` where there is no such split."""
        if split == METAVAL and split not in self.splits:
            raise ValueError(
                f"{self.folder} has no meta-validation split: it was prepared with "
                "--metaval_per_class 0; prepare it with some"
            )
        if split not in self.splits:
            raise ValueError(
                f"{self.folder} has no split {split!r}: choose one of {', '.join(self.splits)}"
            )
        return self.folder / self.splits[split].file


def write(manifest: Manifest, folder: Path | None = None) -> None:
    """Write ``manifest`` as ``manifest.json``, into its own folder unless another is given."""
    content = {"format": FORMAT} | asdict(manifest)
    del content["folder"]
    # In ASCII: names of files and classes may hold bytes that are no UTF-8.
    text = json.dumps(content, indent=1) + "\n"
    ((folder or manifest.folder) / FILE_NAME).write_text(text, encoding="utf-8")


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read the manifest in ``folder`` and check that its files are there in full size.

    Raises:
        ValueError: one line, see :func:`read_alone`, or for a missing or truncated ``.beton`` file.
    """
    manifest = read_alone(folder)
    for split in manifest.splits:
        check_size(manifest, split, AGAIN)
    return manifest


def preparing_command(folder: Path) -> str:
    """Say how a data set of this name is prepared: images by class, unless it names another."""
    names = ("cifar100", "cifar10", "digits")
    script = next((name for name in names if folder.name.startswith(name)), "imagefolder")
    source = "" if script == "digits" else " --source SOURCE"
    return f"python data_prep/{script}.py{source} --out {folder}"


def read_alone(folder: str | os.PathLike[str]) -> Manifest:
    """Read the manifest in ``folder``, whether its data are there or not.

    Raises:
        ValueError: one line, for a missing folder or manifest, malformed JSON, an unknown format,
            and missing or wrong entries.
    """
    folder = Path(folder)
    path = folder / FILE_NAME
    if not path.is_file():
        what = f"{folder} has no {FILE_NAME}" if folder.exists() else f"{folder} does not exist"
        raise ValueError(
            f"no prepared data set: {what}; name the folder of one, or prepare it: "
            f"{preparing_command(folder)}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {error}; {AGAIN}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} has format {found!r}, this version reads {FORMAT}: {AGAIN}")
    try:
        manifest = parse(folder, content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is not a manifest of this project ({detail}): {AGAIN}") from error
    return manifest


def parse(folder: Path, content: Mapping[str, Any]) -> Manifest:
    """Build a ``Manifest`` from the parsed JSON; ``KeyError``, ``TypeError`` if it does not fit."""
    job = dict(content["job"])
    classes = tuple(content["classes"])
    if len(classes) < LEAST_CLASSES or not all(isinstance(label, str) for label in classes):
        raise TypeError("classes must be names, of two classes or more")
    least = [name for name in SPLITS if name != METAVAL or job.get("metaval_per_class") != 0]
    splits = {}
    for name in in_order({*content["splits"], *least}):
        splits[name] = parse_split(name, content["splits"][name], len(classes))
    return Manifest(
        folder=folder,
        name=plain_name(content["name"]),
        job=job,
        classes=classes,
        image=parse_image(content["image"]),
        augmentation=dict(content["augmentation"]),
        splits=splits,
        skipped=tuple(content["skipped"]),
    )


def parse_split(name: str, entry: Mapping[str, Any], classes: int) -> Split:
    """Build a ``Split``; ``KeyError``, ``TypeError`` if it does not fit."""
    split = Split(**{**entry, "per_class": tuple(entry["per_class"])})
    plain_name(split.file)
    if any(type(n) is not int or n < 0 for n in (split.bytes, split.samples, *split.per_class)):
        raise TypeError(f"bytes, samples and per_class of {name} are not whole numbers")
    if len(split.per_class) != classes or sum(split.per_class) != split.samples:
        raise TypeError(f"per_class of {name} does not fit the classes and samples")
    return split


def parse_image(image: Mapping[str, Any]) -> ImageFormat:
    """Build an ``ImageFormat``; ``KeyError``, ``TypeError`` if it does not fit."""
    size, mean, std = image["size"], list(image["mean"]), list(image["std"])
    if len(mean) != 3 or len(std) != 3:
        raise TypeError("mean and std need one number per channel")
    numbers = [*mean, *std]
    if not all(type(number) in (int, float) and isfinite(number) for number in numbers):
        raise TypeError("mean and std must be finite numbers")
    if min(std) <= 0:
        raise TypeError("std must be greater than 0")
    if size is not None and (type(size) is not int or size < 1):
        raise TypeError(f"an image size of {size!r} is no number of pixels")
    return {"size": size, "mean": mean, "std": std}


def plain_name(name: str) -> str:
    """Return ``name``, which becomes part of a path; ``TypeError`` if it could lead elsewhere."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise TypeError(f"{name!r} is not a plain file name")
    return name


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no number")


def in_order(splits: Collection[str]) -> list[str]:
    """Return those of the known splits that are among ``splits``, in their order."""
    return [name for name in (*SPLITS, EXTRA) if name in splits]


def check_size(manifest: Manifest, split: str, again: str) -> None:
    """Raise ``ValueError`` if the split's file is missing or not as long as it was written."""
    path = manifest.path(split)
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {FILE_NAME} lists it: {again}")
    size, expected = path.stat().st_size, manifest.splits[split].bytes
    if size != expected:
        what = "truncated" if size < expected else "not the file that was written"
        raise ValueError(f"{path} is {what} ({size:,} bytes instead of {expected:,}): {again}")


def verify(manifest: Manifest) -> None:
    """Read every file and raise ``ValueError`` at the first whose sha256 is not the manifest's."""
    for split in manifest.splits:
        path = manifest.path(split)
        if sha256_of(path) != manifest.splits[split].sha256:
            raise ValueError(
                f"{path} is damaged (its sha256 differs from {FILE_NAME}): "
                f"remove the folder and prepare the data set again"
            )


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hexadecimal sha256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
