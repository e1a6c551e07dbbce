"""Image files where they lie: in folders, and in uncompressed tars, which are never unpacked.

A tar counts as a folder of its name, also one within another: ImageNet's
``ILSVRC2012_img_train.tar`` is a folder of a thousand folders. Its files are read by offset.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

DEPTH = 3  # folders below the one that holds a class
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


MAX_BYTES = 1 << 30  # of a picture or a list


class File(NamedTuple):
    """Name a file: its folder, its name there, its size in bytes, and its offset in a tar."""

    folder: Folder
    name: str
    size: int
    offset: int = 0

    @property
    def path(self) -> str:
        """Return the path from the source on."""
        return posixpath.join(self.folder.path, self.name)

    def read(self, limit: int | None = None) -> bytes:
        """Return the content, or its first ``limit`` bytes; see ``Folder.read``.

        Raises:
            ValueError: if it cannot be read, or all of more than ``MAX_BYTES`` is asked for.
        """
        if limit is None and self.size > MAX_BYTES:
            raise ValueError(f"{self.path} has {self.size:,} bytes, as no picture: take it away")
        return self.folder.read(self, self.size if limit is None else min(limit, self.size))


class Folder(Protocol):
    """List a folder on disk or in a tar; hidden files and what macOS adds are not seen."""

    @property
    def path(self) -> str:
        """Return the path from the source on; empty for the source itself."""

    @property
    def folders(self) -> dict[str, Folder]:
        """Return the folders in it by name, in order."""

    @property
    def files(self) -> dict[str, File]:
        """Return the files in it by name, in order."""

    def read(self, file: File, size: int) -> bytes:
        """Return the first ``size`` bytes of a file in it.

        Raises:
            ValueError: it cannot be read, or a tar ends in the middle of it.
        """


@dataclass(frozen=True, eq=False)
class DiskFolder:
    """List a folder on disk; ``around`` are the folders it lies in, links resolved."""

    path: str
    location: Path
    around: frozenset[Path] = frozenset()

    @cached_property
    def entries(self) -> tuple[dict[str, Folder], dict[str, File]]:
        """List it; ``ValueError`` where a link leads back to a folder that it lies in."""
        here = self.location.resolve()
        if here in self.around:
            raise ValueError(f"{self.location} links to a folder that it lies in: remove the link")
        folders: dict[str, Folder] = {}
        files: dict[str, File] = {}
        tars: dict[str, Folder] = {}
        with os.scandir(self.location) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = posixpath.join(self.path, entry.name)
                location = self.location / entry.name
                if not is_visible(entry.name):
                    continue
                if entry.is_dir():
                    folders[entry.name] = DiskFolder(path, location, self.around | {here})
                elif entry.is_file() and entry.name.endswith(".tar"):
                    name = entry.name.removesuffix(".tar")
                    tars[name] = Tar(path.removesuffix(".tar"), location, 0, entry.stat().st_size)
                else:  # a pipe, or a link to nowhere, is empty: it is named among what is unusable
                    size = entry.stat().st_size if entry.is_file() else 0
                    files[entry.name] = File(self, entry.name, size)
        return tars | folders, files  # a tar that was unpacked where it lies is not read twice

    @property
    def folders(self) -> dict[str, Folder]:
        """Return the folders and tars in it."""
        return self.entries[0]

    @property
    def files(self) -> dict[str, File]:
        """Return the other files in it."""
        return self.entries[1]

    def read(self, file: File, size: int) -> bytes:
        """Return a file's first ``size`` bytes; none of what is no regular file."""
        if not size:
            return b""
        try:
            descriptor = os.open(self.location / file.name, os.O_RDONLY | os.O_NONBLOCK)
            with open(descriptor, "rb") as opened:
                return opened.read(size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        except OSError as error:
            where = self.location / file.name
            raise ValueError(f"cannot read {where}: {error.strerror}") from error


@dataclass(frozen=True, eq=False)
class TarredFolder:
    """Hold the list of a folder in a tar that lies at ``location``."""

    path: str
    location: Path
    folders: dict[str, Folder] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)

    def read(self, file: File, size: int) -> bytes:
        """Return a file's first ``size`` bytes."""
        with open(self.location, "rb") as opened:
            data = os.pread(opened.fileno(), size, file.offset)
        if len(data) != size:
            raise ValueError(f"{file.path}: the tar ends in the middle of it")
        return data


@dataclass(frozen=True, eq=False)
class Tar:
    """List an uncompressed tar: ``size`` bytes from ``offset`` on of the file at ``location``."""

    path: str
    location: Path
    offset: int
    size: int

    @cached_property
    def root(self) -> TarredFolder:
        """List it.

        Raises:
            ValueError: it is compressed, truncated or no tar, or holds links or sparse files.
        """
        name = f"{self.path}.tar in {self.location}" if self.offset else str(self.location)
        root = TarredFolder(self.path, self.location)
        end = self.offset
        with open(self.location, "rb") as file:
            start = os.pread(file.fileno(), 8, self.offset)
            if kind := next((MAGIC[magic] for magic in MAGIC if start.startswith(magic)), None):
                raise ValueError(
                    f"{name} is compressed ({kind}) and cannot be read by offset: unpack it and "
                    "give the folder, or decompress it to a plain tar"
                )
            file.seek(self.offset)
            try:
                with tarfile.open(fileobj=file, mode="r:") as archive:
                    for entry in archive:
                        # tarfile keeps them all otherwise: 1 GB for ImageNet
                        archive.members = []  # type: ignore[attr-defined]
                        add_entry(root, entry, name)
                        blocks = -(-entry.size // tarfile.BLOCKSIZE) if entry.isreg() else 0
                        end = entry.offset_data + blocks * tarfile.BLOCKSIZE
            except (tarfile.TarError, EOFError) as error:
                raise ValueError(f"cannot read {name}, truncated or not a tar ({error})") from error
        if end + tarfile.BLOCKSIZE > self.offset + self.size:
            raise ValueError(f"{name} lacks the mark at its end: it is truncated, copy it anew")
        return root

    @property
    def folders(self) -> dict[str, Folder]:
        """Return the folders in it."""
        return self.root.folders

    @property
    def files(self) -> dict[str, File]:
        """Return the files in it."""
        return self.root.files

    def read(self, file: File, size: int) -> bytes:
        """Return a file's first ``size`` bytes."""
        return self.root.read(file, size)


def add_entry(root: TarredFolder, entry: tarfile.TarInfo, tar: str) -> None:
    """Sort a tar's next entry into its tree of folders; ``ValueError`` for a link."""
    parts = [part for part in posixpath.normpath(entry.name).split("/") if part not in ("", ".")]
    if not parts or not all(is_visible(part) for part in parts):
        return
    *outer, name = parts if not entry.isdir() else [*parts, ""]
    folder = root
    for part in outer:
        path = posixpath.join(folder.path, part)
        inner = folder.folders.setdefault(part, TarredFolder(path, root.location))
        if not isinstance(inner, TarredFolder):
            return  # below a tar that was unpacked where it lies: its folder has come second
        folder = inner
    if entry.islnk() or entry.issym() or entry.issparse():
        raise ValueError(
            f"{entry.name} in {tar} is a link or sparse, which cannot be read by offset: "
            "unpack the tar and give the folder"
        )
    if entry.isreg() and name.endswith(".tar"):
        name = name.removesuffix(".tar")
        path = posixpath.join(folder.path, name)
        folder.folders.setdefault(name, Tar(path, root.location, entry.offset_data, entry.size))
    elif entry.isreg():
        folder.files[name] = File(folder, name, entry.size, entry.offset_data)


def open_source(path: str | os.PathLike[str], flag: str = "--source", name: str = "") -> Folder:
    """Return a folder or an uncompressed tar as a folder.

    Args:
        path: where it lies.
        flag: by which it was given, for messages.
        name: what the paths of its files begin with.

    Raises:
        ValueError: there is nothing, or no tar.
    """
    path = Path(path)
    if path.is_dir():
        return DiskFolder(name, path)
    if path.is_file():
        tar = Tar(name, path, 0, path.stat().st_size)
        tar.root  # noqa: B018 - what is wrong with it is said first
        return tar
    what = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise ValueError(f"{flag} {path} {what}: give a folder or an uncompressed tar")


def walk(folder: Folder, depth: int = DEPTH) -> Iterator[File]:
    """Yield the files in a folder and up to ``depth`` folders below, in order.

    Raises:
        ValueError: folders lie deeper.
    """
    yield from folder.files.values()
    for inner in folder.folders.values():
        if not depth:
            raise ValueError(
                f"{inner.path} lies too deep: images must lie in folders by class, or at most "
                f"{DEPTH} folders below them"
            )
        yield from walk(inner, depth - 1)


def find_folder(folder: Folder, path: str) -> Folder | None:
    """Return the folder at a path below ``folder``, or None."""
    found: Folder | None = folder
    for part in path.split("/"):
        found = found.folders.get(part) if found else None
    return found


def is_visible(name: str) -> bool:
    """Return whether a file or folder is not hidden (macOS and notebooks leave such behind)."""
    return not name.startswith(".") and name != "__MACOSX"
