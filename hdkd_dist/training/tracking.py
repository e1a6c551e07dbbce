"""What a run writes down: ``metrics.jsonl``, the source of truth, and W&B beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hdkd_dist.training.settings import RunSettings


class Tracker:
    """Writes events of one run; only rank 0 has one."""

    def __init__(self, folder: Path, settings: RunSettings, config: Mapping[str, Any]):
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")
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


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, in order."""
    with (folder / "metrics.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
