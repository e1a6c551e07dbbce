"""CIFAR-100 from the official archive (Krizhevsky 2009), without trusting its pickles."""

from __future__ import annotations

import hashlib
import io
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 32
MEMBERS = ("train", "test", "meta")
# Per channel, of the official training set.
MEAN = [0.5071, 0.4865, 0.4409]
STD = [0.2673, 0.2564, 0.2762]
WHERE = "download cifar-100-python.tar.gz anew from https://www.cs.toronto.edu/~kriz/cifar.html"


@dataclass(frozen=True)
class Cifar100:
    """The archive's content: images [N,32,32,3] uint8, fine labels [N] int64, class names.

    ``identity`` holds the sha256 of the archive's members; it is the same for the unpacked folder.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: list[str]
    identity: dict[str, str]


class StoredArray:
    """Stands in for ``numpy.ndarray`` while unpickling: keeps the state, runs nothing."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], StoredType, bool, bytes]) -> None:
        _, self.shape, self.type, _, self.data = state

    def array(self) -> np.ndarray:
        """Return the array; it must be one of bytes."""
        if self.type.code not in ("u1", b"u1", "uint8"):
            raise ValueError(f"pixels of type {self.type.code!r}")
        return np.frombuffer(self.data, np.uint8).reshape(self.shape)


class StoredType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[object, ...]) -> None:
        """Byte order and the like mean nothing for bytes."""


def stored_array(*_: object) -> StoredArray:
    """Stand in for numpy's ``_reconstruct``."""
    return StoredArray()


class ArchiveUnpickler(pickle.Unpickler):
    """Knows the three names that pickled numpy arrays need, and no others: it can run no code."""

    ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {  # noqa: RUF012
        ("numpy", "ndarray"): StoredArray,
        ("numpy", "dtype"): StoredType,
        ("numpy.core.multiarray", "_reconstruct"): stored_array,
        ("numpy._core.multiarray", "_reconstruct"): stored_array,
    }

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the stand-in, or refuse."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name}, which is refused")
        return self.ALLOWED[module, name]


def read_cifar100(source: str | Path) -> Cifar100:
    """Read the official archive, or the folder it unpacks to.

    Raises:
        ValueError: missing, truncated, foreign or hostile content.
    """
    source = Path(source)
    if not source.exists():
        raise ValueError(f"--source {source} does not exist: {WHERE}")
    identity, content = {}, {}
    for member, data in folder_members(source) if source.is_dir() else archive_members(source):
        identity[member] = hashlib.sha256(data).hexdigest()
        content[member] = unpickle(data, f"{member} in {source}")
    if missing := [member for member in MEMBERS if member not in content]:
        raise ValueError(f"{source} is not CIFAR-100: no {', '.join(missing)} in it; {WHERE}")
    try:
        classes = [name.decode("ascii") for name in content["meta"][b"fine_label_names"]]
        train_images, train_labels = images_and_labels(content["train"], len(classes))
        test_images, test_labels = images_and_labels(content["test"], len(classes))
    except Exception as error:
        raise ValueError(
            f"{source} does not hold what the official CIFAR-100 archive holds "
            f"({type(error).__name__}: {error}): {WHERE}"
        ) from error
    return Cifar100(train_images, train_labels, test_images, test_labels, classes, identity)


def folder_members(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in the unpacked folder, or in the folder around it."""
    inner = source / "cifar-100-python"
    folder = inner if inner.is_dir() else source
    for member in MEMBERS:
        if (folder / member).is_file():
            try:
                yield member, (folder / member).read_bytes()
            except OSError as error:
                raise ValueError(f"cannot read {folder / member}: {error.strerror}") from error


def archive_members(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the archive's members, in one pass."""
    try:
        with tarfile.open(source, "r:*") as archive:
            for entry in archive:
                member = Path(entry.name).name
                if entry.isfile() and member in MEMBERS:
                    file = archive.extractfile(entry)
                    assert file is not None
                    yield member, file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        detail = str(error).splitlines()[0].rstrip(":")
        raise ValueError(
            f"cannot read {source}, truncated or not the archive ({detail}): {WHERE}"
        ) from error


def unpickle(data: bytes, what: str) -> dict[bytes, Any]:
    """Return the dictionary that ``data`` holds."""
    try:
        # Python 2 wrote the official files; its strings come back as bytes.
        content = ArchiveUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # malformed pickles raise nearly anything
        raise ValueError(f"cannot read {what}: {error}; {WHERE}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{what} holds no dictionary: {WHERE}")
    return content


def images_and_labels(content: dict[bytes, Any], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images [N,32,32,3] uint8 and fine labels [N] int64 of one part."""
    planes = content[b"data"].array().reshape(-1, 3, SIDE, SIDE)
    labels = np.array(content[b"fine_labels"], np.int64)
    if len(labels) != len(planes) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError("images and fine labels do not fit together")
    return planes.transpose(0, 2, 3, 1), labels
