"""A run's folder: whose it is, and that all ranks see it."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import TextIO

LOCK = ".lock"
PATIENCE = 30.0  # seconds in which what rank 0 has made must be seen from everywhere


def hold(folder: Path) -> TextIO:
    """Claim a run's folder for as long as the file that is returned stays open.

    Raises:
        ValueError: if another process has it, or it cannot be written to. Where the file system
            knows no locks, nobody has it.
    """
    try:
        file = (folder / LOCK).open("w", encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"cannot write the run to {folder}: {error}; choose another --out"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(
            f"{folder} is being trained by another process: wait for it, or choose another --out"
        ) from None
    except OSError:
        pass
    return file


def check_seen(folder: Path) -> None:
    """Wait until this rank sees the folder that rank 0 has made.

    Raises:
        ValueError: if it does not.
    """
    end = time.monotonic() + PATIENCE
    while not (folder / "config.json").exists():
        if time.monotonic() > end:
            raise ValueError(
                f"{folder} was made by rank 0 and cannot be seen here: choose an --out on a file "
                "system that all nodes share"
            )
        time.sleep(0.2)
