"""A run's folder: the files in it, which process has it, and that all ranks see it."""

from __future__ import annotations

import os
import re
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
STEP = re.compile(r"step-(\d{8,})(-evaluated)?")  # names of checkpoints
PATIENCE = 30.0  # seconds in which what rank 0 has made must be seen from everywhere


def hold(folder: Path) -> TextIO:
    """Claim a run's folder for as long as the file that is returned stays open.

    Raises:
        ValueError: if another process has it, or it cannot be written to. A file system
            without locks never raises this.
    """
    import fcntl  # not every system has it, and only training needs it

    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(folder / LOCK, flags, 0o666), "w", encoding="utf-8")
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
    # Processes that are forked, as workers that read data are, live on for seconds after a kill.
    os.register_at_fork(after_in_child=file.close)
    return file


def what_is_left(folder: Path) -> list[str]:
    """Name what an earlier run has left in a folder; empty where none has been there.

    No single file tells: any of them may have been removed or not been copied along.
    """
    steps = [path.name for path in checkpoints_in(folder / CHECKPOINTS)]
    names = [name for name in (CONFIG, METRICS, RESULTS, WEIGHTS) if (folder / name).exists()]
    return [*map(str, names), *(f"{CHECKPOINTS}/{step}" for step in steps[-1:])]


def checkpoints_in(checkpoints: Path) -> list[Path]:
    """List the checkpoints in a run's folder of checkpoints, the oldest first."""
    if not checkpoints.is_dir():
        return []
    matches = [(STEP.fullmatch(path.name), path) for path in checkpoints.iterdir()]
    return [path for *_, path in sorted((int(m[1]), path.name, path) for m, path in matches if m)]


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
