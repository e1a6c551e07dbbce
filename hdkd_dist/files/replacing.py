"""Writing a file as a whole: a crash leaves the old one or the new one, and no link is followed.

A run's folder may come from anybody, and a link in it may lead anywhere: what is written goes to a
new file beside its place, which then takes the place, of a link as of a file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a new, empty file beside ``file``; at the end of the block it takes its place.

    Whatever writes it, it gets the mode that the umask asks for and reaches the disk before it is
    renamed.

    Raises:
        OSError: if it cannot be written; the old file is as it was, and nothing is left beside it.
    """
    partial = file.with_name(f".{file.stem}.partial-{secrets.token_hex(4)}{file.suffix}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, 0o666)  # less the umask
    mode = os.fstat(descriptor).st_mode & 0o777
    os.close(descriptor)
    try:
        yield partial
        os.chmod(partial, mode)  # safetensors writes another file, for its owner alone
        sync(partial)
        os.replace(partial, file)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync(file.parent)


def replace_file(file: Path, text: str) -> None:
    """Write a file's whole text, in UTF-8; see :func:`replacing`.

    Raises:
        OSError: if it cannot be written; the old file is as it was.
    """
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
