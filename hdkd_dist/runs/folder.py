"""A run's folder: the files in it, which process has it, and that all ranks see it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TextIO

CONFIG = "config.json"  # the resolved configuration: enough to repeat the run
METRICS = "metrics.jsonl"  # the source of truth; one event a line
RESULTS = "results.json"  # see runs/results.py
CHECKPOINTS = "checkpoints"
WEIGHTS = Path(CHECKPOINTS, "final", "model.safetensors")  # the trained network
FIGURES = "figures"
LOGITS = "logits"  # every exit's outputs, where evaluate.py was asked for them
STACKS = "stacks"  # where every rank stood when a run was given up
WANDB = "wandb"  # W&B chooses this name
LOCK = ".lock"
PATIENCE = 30.0  # seconds in which what rank 0 has made must be seen from everywhere


def hold(folder: Path) -> TextIO:
    """Claim a run's folder for as long as the file that is returned stays open.

    Raises:
        ValueError: if another process has it, or it cannot be written to. A file system
            without locks never raises this.
    """
    import fcntl  # not every system has it, and only training needs it

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
    while not (folder / CONFIG).exists():
        if time.monotonic() > end:
            raise ValueError(
                f"{folder} was made by rank 0 and cannot be seen here: choose an --out on a file "
                "system that all nodes share"
            )
        time.sleep(0.2)


def rename_aside(folder: Path, suffix: str) -> Path:
    """Rename ``folder`` to the first free ``<folder>.<suffix>-1``, ``-2``, …; return that."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{suffix}-{number}")).exists():
        number += 1
    folder.rename(aside)
    return aside


def replace_file(file: Path, text: str) -> None:
    """Write a file beside its place and rename it there: a crash leaves the old or the new one.

    Raises:
        OSError: if it cannot be written; the old file is as it was.
    """
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())  # a power cut must not leave the name without the content
    os.replace(partial, file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
