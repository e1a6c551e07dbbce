"""Records of a run: ``metrics.jsonl``, the source of truth, and W&B beside it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from hdkd_dist.config.settings import RunSettings
from hdkd_dist.runs.metrics import METRICS

WANDB_TIMEOUT = 30  # seconds until a run goes on offline


class Tracker:
    """Writer of one run's events; only rank 0 has one.

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

    def sync(self) -> dict[str, Any]:
        """Bring all events to the disk; return where the records end, for a checkpoint.

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
    """Print a warning in one line."""
    tell(f"warning: {message}")


def tell(message: str) -> None:
    """Print one line on stderr, which may itself go to a disk that is full."""
    with contextlib.suppress(OSError):
        tqdm.write(message, file=sys.stderr)  # above a progress bar
        sys.stderr.flush()


def start_wandb(
    folder: Path, settings: RunSettings, config: Mapping[str, Any], wandb_id: str | None
):
    """Start a W&B run in ``<folder>/wandb``, or None; offline needs neither account nor network.

    Where W&B cannot be reached the run is recorded offline.

    Args:
        folder: the run's.
        settings: whether, and under which project.
        config: for W&B to show.
        wandb_id: of the run that is continued; None begins another.
    """
    if settings.wandb == "disabled":
        return None
    mode = os.environ.get("WANDB_MODE", settings.wandb)
    if mode != settings.wandb:
        warn(
            f"WANDB_MODE={mode} in the environment makes no difference: --set hdkd.run.wandb={mode}"
        )
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # slow to import, and not needed by ranks that do not write

    def start(mode: Literal["offline", "online"]):
        return wandb.init(
            project=settings.wandb_project,
            name=folder.name,
            dir=str(folder),
            mode=mode,
            config=dict(config),
            id=wandb_id,
            resume=None if wandb_id is None else "allow",
            settings=wandb.Settings(init_timeout=WANDB_TIMEOUT, finish_timeout=WANDB_TIMEOUT),
        )

    modes: tuple[Literal["offline", "online"], ...] = ("online", "offline")
    for mode in modes if settings.wandb == "online" else modes[1:]:
        try:
            run = start(mode)
            break
        except Exception as error:
            reason = " ".join(str(error).split())
            if mode == "offline":
                warn(f"W&B cannot record ({reason}): going on without it")
                return None
            warn(f"W&B cannot be reached ({reason}): recorded offline, wandb sync uploads it later")
    run.define_metric("step")
    run.define_metric("*", step_metric="step")
    return run
