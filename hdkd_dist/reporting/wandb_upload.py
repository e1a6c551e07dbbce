"""Upload runs to W&B from their records: ``python -m hdkd_dist wandb-upload``.

A run that was stopped and resumed leaves an offline W&B folder for each start, and steps after the
last checkpoint are in two of them. ``metrics.jsonl`` holds every step once, in order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import wandb

from hdkd_dist import cli
from hdkd_dist.files.strict_json import read_json_object
from hdkd_dist.runs.folder import CONFIG, FIGURES, METRICS
from hdkd_dist.runs.metrics import read_metrics, run_folders

UPLOADED = "uploaded_events"  # in the W&B run's summary: how many events it has


def main(runs: Sequence[str], project: str = "hdkd_dist", entity: str | None = None) -> None:
    """Upload runs, finished or not; what W&B has already is not sent again.

    With WANDB_MODE=offline each becomes one offline W&B run, for ``wandb sync``.

    Args:
        runs: the runs' folders.
        project: the W&B project.
        entity: the W&B user or team; default: that of the login.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    for folder in run_folders([runs] if isinstance(runs, str) else runs):
        print(upload(folder, str(project), entity), flush=True)
    wandb.teardown()  # its own process has then written everything


def upload(folder: Path, project: str, entity: str | None = None) -> str:
    """Send a run's new events and its pictures; returns what was done, in one line.

    Raises:
        ValueError: without a login or a network, or if W&B refuses.
    """
    events = read_metrics(folder)
    config = folder / CONFIG
    try:
        run = wandb.init(
            project=project,
            entity=entity,
            id=identity(folder),
            resume="allow",
            name=folder.name,
            dir=str(folder),
            config=read_json_object(config) if config.exists() else {},
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        known = int(run.summary.get(UPLOADED) or 0)
        for event in events[known:]:
            run.log({name: value for name, value in event.items() if name != "event"})
        pictures = sorted((folder / FIGURES).glob("*.png"))
        if pictures and known < len(events):
            run.log({picture.stem: wandb.Image(str(picture)) for picture in pictures})
        run.summary[UPLOADED] = len(events)
        run.finish()
    except Exception as error:  # those of W&B's client have no common base
        raise ValueError(
            f"cannot upload {folder} to {project}: {' '.join(str(error).split()).rstrip('. ')}; "
            "W&B wants a network and a login (wandb login, or WANDB_API_KEY)"
        ) from error
    place = run.url or f"{folder}/wandb, offline"
    return f"{folder.name}: {len(events) - known} of {len(events)} events → {place}"


def identity(folder: Path) -> str:
    """Name the W&B run by the run's first record, which stays when it is resumed or copied."""
    with (folder / METRICS).open("rb") as lines:
        return hashlib.sha256(lines.readline()).hexdigest()[:12]


if __name__ == "__main__":
    cli.run(main)
