"""What a run writes down: ``metrics.jsonl``, the source of truth, and W&B beside it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hdkd_dist.training.settings import RunSettings

METRICS = "metrics.jsonl"
WANDB_TIMEOUT = 30  # seconds until a run goes on offline


class Tracker:
    """Writes events of one run; only rank 0 has one.

    A disk that is full for a while loses nothing: events wait in memory until they can be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: RunSettings,
        config: Mapping[str, Any],
        wandb_id: str | None = None,
    ):
        self._metrics = (folder / METRICS).open("ab", buffering=0)
        self._waiting = b""
        self._wandb = start_wandb(folder, settings, config, wandb_id)

    def record(self, event: str, values: Mapping[str, Any]) -> None:
        """Append one event as a line of JSON; W&B gets its numbers.

        Args:
            event: what happened, such as "step" or "epoch".
            values: names with "/" for groups, as W&B has them; ``step`` counts optimiser steps.
        """
        line = json.dumps({"event": event, **values}, allow_nan=False) + "\n"
        told = bool(self._waiting)
        self._waiting += line.encode()
        try:
            self._write()
        except OSError as error:
            if not told:
                warn(f"{self._metrics.name} cannot be written ({error.strerror}): kept in memory")
        self._log(dict(values))

    def _write(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[self._metrics.write(self._waiting) :]

    def _log(self, values: dict[str, Any]) -> None:
        if self._wandb is None:
            return
        try:
            self._wandb.log(values)
        except Exception as error:  # its process is gone: killed with the others, or by the system
            warn(f"W&B has failed ({error}): this run goes on without it, see {METRICS}")
            self._wandb = None

    def show(self, pictures: Sequence[Path]) -> None:
        """Put pictures beside the numbers in W&B."""
        if self._wandb is not None:
            import wandb

            self._log({picture.stem: wandb.Image(str(picture)) for picture in pictures})

    def mark(self) -> dict[str, Any]:
        """Bring all events to the disk; where this run's records stand, for a checkpoint.

        Raises:
            OSError: if they cannot be written.
        """
        self._write()
        os.fsync(self._metrics.fileno())
        name = None if self._wandb is None else self._wandb.id
        return {"metrics_bytes": self._metrics.tell(), "wandb_id": name}

    def close(self) -> None:
        """Finish both.

        Raises:
            ValueError: if events could not be written to the end.
        """
        if self._wandb is not None:
            try:
                self._wandb.finish()
            except Exception as error:
                warn(f"W&B could not finish its record ({error}); {METRICS} is complete")
        try:
            self._write()
        except OSError as error:
            raise ValueError(
                f"{self._metrics.name} cannot be written ({error.strerror}): free some space and "
                "start again with --resume auto"
            ) from None
        self._metrics.close()


def warn(message: str) -> None:
    """One line on stderr, which may itself go to a disk that is full."""
    with contextlib.suppress(OSError):
        tqdm.write(f"warning: {message}", file=sys.stderr)  # beside a progress bar
        sys.stderr.flush()


def start_wandb(
    folder: Path, settings: RunSettings, config: Mapping[str, Any], wandb_id: str | None
):
    """A W&B run in ``<folder>/wandb``, or None; offline needs neither an account nor a network.

    Where W&B cannot be reached the run is recorded offline.

    Args:
        folder: the run's.
        settings: whether, and under which project.
        config: for W&B to show.
        wandb_id: of the run that is continued; None begins another.
    """
    if settings.wandb == "disabled":
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # slow to import, and not needed by ranks that do not write

    def start(mode: str):
        return wandb.init(
            project=settings.wandb_project,
            name=folder.name,
            dir=str(folder),
            mode=mode,
            config=dict(config),
            id=wandb_id,
            resume=None if wandb_id is None else "allow",
            settings=wandb.Settings(init_timeout=WANDB_TIMEOUT),
        )

    try:
        run = start(settings.wandb)
    except Exception as error:
        if settings.wandb == "offline":
            warn(f"W&B cannot record ({' '.join(str(error).split())}): going on without it")
            return None
        reason = " ".join(str(error).split())
        warn(f"W&B cannot be reached ({reason}): recorded offline, wandb sync uploads it later")
        run = start("offline")
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run


def run_folders(words: Sequence[str]) -> list[Path]:
    """The folders among these, or among what these patterns match, that hold ``metrics.jsonl``.

    Raises:
        ValueError: if a name leads nowhere, or none leads to a run.
    """
    folders: dict[Path, None] = {}
    for word in map(str, words):
        matches = sorted(glob(word))
        if not matches:
            raise ValueError(f"there is no {word}: name folders of runs, as in --runs runs/*")
        folders |= {Path(match).resolve(): None for match in matches}
    found = [folder for folder in folders if (folder / METRICS).is_file()]
    if not found:
        named = ", ".join(map(str, words)) or "nothing"
        raise ValueError(f"no folder that holds {METRICS} among {named}: name those of runs")
    return found


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, in order; also of one that is still writing, or was killed."""
    return read_events(folder)[0]


def read_events(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """As :func:`read_metrics`, and the number of lines that hold no event.

    A killed run leaves a line without its end. No step is there twice: a resumed run first cuts the
    file to what it was at the checkpoint.
    """
    events: list[dict[str, Any]] = []
    unreadable = 0
    with (folder / METRICS).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            event = parse_event(line)
            if event is None:
                unreadable += 1
            else:
                events.append(event)
    return events, unreadable


def parse_event(line: str) -> dict[str, Any] | None:
    """The event that a line holds, if it holds one."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(event, dict) and isinstance(event.get("step"), int) and "event" in event
    return event if whole else None
