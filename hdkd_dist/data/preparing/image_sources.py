"""Where image files come from: a folder, or an uncompressed tar read by offset, never unpacked."""

from __future__ import annotations

import os
import posixpath
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hdkd_dist.data.preparing.workers import progress_bar

PARTS = ("train", "val")
DEPTH = 3  # folders below train/ or val/
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


class File(NamedTuple):
    """A file below ``train/`` or ``val/``: path from there on, size in bytes, offset in the tar."""

    name: str
    size: int
    offset: int = 0


@dataclass(frozen=True)
class FolderSource:
    """Images in a folder."""

    root: Path
    files: tuple[File, ...]
    folders: frozenset[str]

    def read(self, file: File) -> bytes:
        """Return a file's content; nothing for a link that leads nowhere, which is no image."""
        try:
            return (self.root / file.name).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ValueError(f"cannot read {self.root / file.name}: {error.strerror}") from error


@dataclass(frozen=True)
class TarSource:
    """Images in a tar; ``descriptor`` is shared with forked workers, which read by offset."""

    descriptor: int
    files: tuple[File, ...]
    folders: frozenset[str]

    def read(self, file: File) -> bytes:
        """Return a file's content."""
        data = os.pread(self.descriptor, file.size, file.offset)
        if len(data) != file.size:
            raise ValueError(f"{file.name}: the tar ends in the middle of it")
        return data


def open_source(path: str | os.PathLike[str]) -> FolderSource | TarSource:
    """List the files and folders of ``train/`` and ``val/``, with or without one folder around.

    Raises:
        ValueError: nothing there, a compressed or truncated tar, no ``train/`` in it, or folders
            that lie too deep or in a loop.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"--source {path} does not exist: give a folder or an uncompressed tar")
    try:
        return open_folder(path) if path.is_dir() else open_tar(path)
    except OSError as error:
        raise ValueError(f"cannot read --source {error.filename}: {error.strerror}") from error


def open_folder(path: Path) -> FolderSource:
    """List a folder."""
    root = path
    if not (root / "train").is_dir():
        inner = [entry for entry in root.iterdir() if entry.is_dir() and is_visible(entry.name)]
        if len(inner) != 1 or not (inner[0] / "train").is_dir():
            raise no_train(path, (entry.name for entry in inner))
        root = inner[0]
    files: list[File] = []
    folders: set[str] = set()
    with progress_bar(None, "listing", " files") as progress:

        def walk(name: str, around: tuple[Path, ...]) -> None:
            here = (root / name).resolve()
            if here in around:
                raise ValueError(
                    f"{root / name} links to a folder that it lies in: remove the link"
                )
            if len(around) > DEPTH:
                raise ValueError(
                    f"{root / name} lies more than {DEPTH} folders below {name.split('/')[0]}/: "
                    "images must lie in folders by class, or not far below them"
                )
            folders.add(name)
            with os.scandir(root / name) as entries:
                for entry in entries:
                    if not is_visible(entry.name):
                        continue
                    if entry.is_dir():
                        walk(f"{name}/{entry.name}", (*around, here))
                    elif entry.is_file():
                        files.append(File(f"{name}/{entry.name}", entry.stat().st_size))
                        progress.update()
                    elif entry.is_symlink():  # leads nowhere: named among the faulty ones
                        files.append(File(f"{name}/{entry.name}", 0))

        for part in PARTS:
            if (root / part).is_dir():
                walk(part, ())
    return FolderSource(root, tuple(files), frozenset(folders))


def open_tar(path: Path) -> TarSource:
    """List a tar."""
    with open(path, "rb") as file:
        start = file.read(8)
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            raise ValueError(
                f"{path} is compressed ({kind}) and cannot be read by offset: unpack it and give "
                f"the folder, or decompress it to a plain tar"
            )
    files: list[File] = []
    folders: set[str] = set()
    try:
        with (
            tarfile.open(path, "r:") as archive,
            progress_bar(None, "listing", " files") as progress,
        ):
            for entry in archive:
                archive.members = []  # tarfile keeps them all otherwise: 1 GB for ImageNet
                name = posixpath.normpath(entry.name)
                if entry.isdir():
                    folders.add(name)
                elif entry.islnk() or entry.issym() or entry.issparse():
                    raise ValueError(
                        f"{entry.name} in {path} is a link or sparse, which cannot be read by "
                        f"offset: unpack the tar and give the folder"
                    )
                elif entry.isreg():
                    files.append(File(name, entry.size, entry.offset_data))
                    progress.update()
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"cannot read {path}, truncated or not a tar ({error})") from error
    descriptor = os.open(path, os.O_RDONLY)
    if files:
        last = max(files, key=lambda file: file.offset)
        end = last.offset + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        if len(os.pread(descriptor, tarfile.BLOCKSIZE, end)) < tarfile.BLOCKSIZE:
            raise ValueError(f"{path} lacks the mark at its end: it is truncated, copy it anew")
    return TarSource(descriptor, *without_top(path, files, folders))


def without_top(
    path: Path, files: list[File], folders: set[str]
) -> tuple[tuple[File, ...], frozenset[str]]:
    """Keep what lies in ``train/`` and ``val/``, and drop the one folder around them if any."""
    paths = [file.name for file in files] + list(folders)
    tops = {name.split("/")[0] for name in paths if is_visible(name)} - {"."}
    skip = 0
    if "train" not in tops:
        top = tops.pop() if len(tops) == 1 else None
        if not any(name.startswith(f"{top}/train/") for name in paths):
            raise no_train(path, tops)
        skip = len(f"{top}/")
    inside = tuple(f"{part}/" for part in PARTS)
    kept = [file._replace(name=file.name[skip:]) for file in files]
    return (
        tuple(file for file in kept if file.name.startswith(inside) and is_visible(file.name)),
        frozenset(name[skip:] for name in folders if name[skip:].startswith(inside)),
    )


def is_visible(name: str) -> bool:
    """Whether no part of the path is hidden (macOS and notebooks leave hidden files behind)."""
    return not any(part.startswith(".") for part in name.split("/"))


def no_train(path: Path, found: object) -> ValueError:
    """Build the error for a source without a training part."""
    names = ", ".join(sorted(found)[:5]) or "nothing"  # type: ignore[call-overload]
    return ValueError(
        f"{path} has an unknown layout: expected train/<class>/<image> and val/<class>/<image>, "
        f"with or without one folder around them, but at the top there is {names}"
    )
