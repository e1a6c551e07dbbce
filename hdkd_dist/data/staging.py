"""A folder that appears complete or not at all, whatever kills the process that fills it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_open: set[Path] = set()  # for the signal handler, which nothing else can tell


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """Give a new folder next to ``out``; ``publish`` it before the end, or it is removed.

    Folders that processes of this host left behind when they were killed are removed first.
    ``ValueError`` where no folder can be made.
    """
    folder = out.parent / f"{prefix(out)}{os.getpid()}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(out)
        folder.mkdir()
    except OSError as error:
        raise ValueError(
            f"cannot create {folder}: {error.strerror}; choose another --out"
        ) from error
    _open.add(folder)
    try:
        yield folder
    finally:
        _open.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, out: Path) -> bool:
    """Rename ``folder`` to ``out`` in one step; False if ``out`` is there and not empty."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a power cut must not leave the name without the content
        finally:
            os.close(descriptor)
    try:
        os.rename(folder, out)
    except OSError:
        if out.exists():
            return False
        raise
    return True


def prefix(out: Path) -> str:
    """Names of staging folders of this host: hidden, so that ``ls`` and globs pass them by."""
    return f".{out.name}.partial-{socket.gethostname()}-"


def remove_stale(out: Path) -> None:
    """Remove the staging folders for ``out`` whose processes on this host are dead."""
    pattern = re.compile(re.escape(prefix(out)) + r"(\d+)")
    for path in out.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not is_alive(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Whether another process of this number runs; our own number can only be a reused one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, under another user
        return True
    return True


def exit_on_signals() -> None:
    """Let SIGTERM and Ctrl-C remove open staging folders and exit with status 128 + signal.

    The handler does both itself: an exception raised in it could land in a place that swallows
    exceptions, such as Python's own callbacks around a fork. Workers follow when they find their
    parent gone.
    """
    owner = os.getpid()

    def leave(number: int, _: FrameType | None) -> None:
        if os.getpid() == owner:  # a fork that has not set its own handlers yet owns nothing
            discard_open()
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def discard_open() -> None:
    """Remove the staging folders that this process is filling: it is about to leave."""
    for folder in list(_open):
        shutil.rmtree(folder, ignore_errors=True)
