"""What a run writes down: ``metrics.jsonl``, the source of truth, and W&B beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from hdkd_dist.training.settings import RunSettings

METRICS = "metrics.jsonl"


class Tracker:
    """Writes events of one run; only rank 0 has one."""

    def __init__(self, folder: Path, settings: RunSettings, config: Mapping[str, Any]):
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")
        self._wandb = start_wandb(folder, settings, config)

    def record(self, event: str, values: Mapping[str, Any]) -> None:
        """Append one event as a line of JSON; W&B gets its numbers.

        Args:
            event: what happened, such as "step" or "epoch".
            values: names with "/" for groups, as W&B has them; ``step`` counts optimiser steps.
        """
        line = json.dumps({"event": event, **values}, allow_nan=False)
        self._metrics.write(line + "\n")
        self._metrics.flush()
        if self._wandb is not None:
            self._wandb.log(dict(values))

    def show(self, pictures: Sequence[Path]) -> None:
        """Put pictures beside the numbers in W&B."""
        if self._wandb is not None:
            import wandb

            self._wandb.log({picture.stem: wandb.Image(str(picture)) for picture in pictures})

    def close(self) -> None:
        """Finish both."""
        self._metrics.close()
        if self._wandb is not None:
            self._wandb.finish()


def start_wandb(folder: Path, settings: RunSettings, config: Mapping[str, Any]):
    """A W&B run in ``<folder>/wandb``, or None; offline needs neither an account nor a network."""
    if settings.wandb == "disabled":
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # slow to import, and not needed by ranks that do not write

    run = wandb.init(
        project=settings.wandb_project,
        name=folder.name,
        dir=str(folder),
        mode=settings.wandb,
        config=dict(config),
    )
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

    A killed run leaves a line without its end. Steps that are taken again after a resume replace
    what had been recorded from there on.
    """
    events: list[dict[str, Any]] = []
    unreadable = 0
    with (folder / METRICS).open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            event = parse_event(line)
            if event is None:
                unreadable += 1
                continue
            del events[kept_before(event, events) :]
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


def kept_before(event: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> int:
    """How many of the events still hold, now that the run recorded ``event``."""
    kept = len(events)
    for place in range(len(events) - 1, -1, -1):
        earlier = events[place]
        if earlier["step"] < event["step"]:
            break
        if earlier["step"] > event["step"] or earlier["event"] == event["event"]:
            kept = place
    return kept
