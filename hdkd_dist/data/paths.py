"""Settle what a path stands for before anything is read or written."""

from __future__ import annotations

import os
from pathlib import Path


def settled(path: str | Path) -> Path:
    """Follow a link to what it stands for, so that renaming or replacing never moves the link.

    Raises:
        ValueError: for an empty path, and a link to something that is not there.
    """
    if not str(path):
        raise ValueError("an empty path: name a file or a folder")
    path = Path(path)
    try:
        if not path.is_symlink():
            return path
        found = path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise ValueError(f"{path} cannot be used: {error.strerror}") from None
    if not found:
        raise ValueError(
            f"{path} is a link to {os.readlink(path)}, which is not there: make that, or remove "
            "the link"
        )
    return path.resolve()


def own_folder(path: str | Path) -> Path:
    """Settle a folder that a program makes, fills and may rename.

    Raises:
        ValueError: as :func:`settled`, and for the folder that one is in or one that holds it.
    """
    folder = settled(path)
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{str(path)!r} is the folder you are in, or holds it: name one of its own"
        )
    return folder


def check_writable(folder: Path) -> None:
    """Refuse a folder that is not there and cannot be made, or that cannot be written to.

    Raises:
        ValueError: naming the place that is in the way.
    """
    place = nearest(folder)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "may not be written to" if place.is_dir() else "is no folder"
        raise ValueError(f"cannot write to {folder}: {place} {what}; choose another --out")


def check_folder(flag: str, folder: Path) -> None:
    """Refuse what is no folder and cannot become one, as it is in something else or is that.

    Raises:
        ValueError: naming the place that is in the way.
    """
    if not (place := nearest(folder)).is_dir():
        raise ValueError(f"{flag} {folder} cannot be used: {place} is no folder")


def nearest(folder: Path) -> Path:
    """Return what there is of a path: itself, or the folder that it would be made in."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())
