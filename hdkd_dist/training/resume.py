"""Where a run begins: at the beginning, or where an earlier one was interrupted."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.inference.trained import WEIGHTS, read_run
from hdkd_dist.training.checkpoint import (
    Checkpoint,
    Damaged,
    folders,
    read_checkpoint,
    set_aside,
    verify,
)
from hdkd_dist.training.config import Config
from hdkd_dist.training.fit import check_fit, compare
from hdkd_dist.training.folder import hold
from hdkd_dist.training.metrics import METRICS

CHECKPOINTS = "checkpoints"  # in a run's folder


@dataclass(frozen=True)
class Start:
    """Where a run begins."""

    checkpoint: Path | None = None  # None: at the beginning
    world_size: int = 0  # of the ranks that wrote it
    changed: bool = False  # whether the configuration is another, with the user's consent
    finished: bool = False  # there is nothing left to do
    in_place: bool = False  # the run's folder is kept


def find_start(
    folder: Path, resume: str, resume_changed: bool, config: Config, manifest: Manifest
) -> Start:
    """Decide where the run begins; on rank 0 alone. Damaged checkpoints are named and set aside.

    Args:
        folder: of the run.
        resume: "never", "auto", or the path of a checkpoint or of another run.
        resume_changed: whether another configuration may continue the run.
        config: of this run.
        manifest: of this run's data.

    Raises:
        ValueError: in one line, if there is nothing to continue or it does not fit.
    """
    if resume == "never":
        return Start()
    if (folder / "config.json").exists():
        hold(folder).close()  # nobody is training it
    if resume == "auto":
        if not (folder / "config.json").exists():
            return Start()
        if not folders(folder / CHECKPOINTS):
            if is_finished(folder):
                check_same(folder, config)
                return Start(finished=True)
            print(f"{folder} has no checkpoint yet: it starts from the beginning")
            return Start(in_place=True)
        checkpoint = newest(folder / CHECKPOINTS)
    else:
        checkpoint = named(Path(resume).resolve())
    changed = check_fit(checkpoint, config, manifest, resume_changed)
    own = checkpoint.folder.parent.resolve() == (folder / CHECKPOINTS).resolve()
    records = checkpoint.folder.parents[1] / METRICS
    if not own and not records.exists():
        raise ValueError(
            f"--resume {resume}: there is no {records}, which a run from that checkpoint goes on "
            "with: give the checkpoint within the folder of its run"
        )
    if resume == "auto" and is_finished(folder) and not changed:
        return Start(finished=True)
    return Start(checkpoint.folder, checkpoint.world_size, changed, in_place=own)


def check_same(folder: Path, config: Config) -> None:
    """Refuse to take a finished run without checkpoints for one with other settings."""
    if differences := compare(read_run(folder), config.as_json()):
        raise ValueError(
            f"{folder} holds a finished run with another configuration, and none of its "
            f"checkpoints ({'; '.join(differences.values())}): choose another --out, or begin anew "
            "with --resume never"
        )


def newest(checkpoints: Path) -> Checkpoint:
    """The newest checkpoint that is as it was written; damaged ones are named and set aside.

    Raises:
        Damaged: if none is; a week's run is not begun anew without being asked to.
        Unreadable: if the file system fails; nothing is set aside then.
    """
    damage: list[tuple[Path, Damaged]] = []
    for folder in reversed(folders(checkpoints)):
        try:
            checkpoint = read_checkpoint(folder)
            verify(checkpoint)
        except Damaged as error:
            damage.append((folder, error))
            continue
        for damaged, error in damage:
            aside = set_aside(damaged)
            print(f"{error}; the one before it is used ({damaged.name} is now {aside.name})")
        return checkpoint
    faults = "; ".join(str(error) for _, error in damage)
    raise Damaged(f"no checkpoint is left to go on from ({faults}): --resume never begins anew")


def named(path: Path) -> Checkpoint:
    """The checkpoint at ``path``, or the newest of the run there.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    if folders(path / CHECKPOINTS):
        return newest(path / CHECKPOINTS)
    if not path.is_dir():
        raise ValueError(
            f"--resume {path}: there is no such folder; give auto, never, the folder of a run or "
            "one of its checkpoints"
        )
    checkpoint = read_checkpoint(path)
    verify(checkpoint)
    return checkpoint


def is_finished(folder: Path) -> bool:
    """Whether the run in ``folder`` has come to its end."""
    try:
        lines = (folder / METRICS).read_bytes().splitlines()
        last = json.loads(lines[-1])
    except (OSError, IndexError, ValueError):
        return False
    return last["event"] == "end" and (folder / "results.json").exists()


def continue_folder(folder: Path, start: Start) -> None:
    """Make the folder of a continued run as it was at its checkpoint; rank 0.

    Later checkpoints, left by a resume from an earlier one, are set aside, and what an earlier end
    of the run has left is removed: it would be taken for this one's.
    """
    (folder / "results.json").unlink(missing_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    found = folders(folder / CHECKPOINTS)
    names = [path.name for path in found]
    later = names.index(start.checkpoint.name) + 1 if start.checkpoint else 0
    for path in found[later:]:
        set_aside(path)


def continue_metrics(folder: Path, start: Start, size: int) -> None:
    """Cut ``metrics.jsonl`` to what it was at the checkpoint; rank 0."""
    file = folder / METRICS
    if start.checkpoint is None:
        file.unlink(missing_ok=True)
        return
    source = file if start.in_place else start.checkpoint.parents[1] / METRICS
    check_metrics(source, size)
    if source != file:
        file.write_bytes(source.read_bytes()[:size])
    os.truncate(file, size)


def check_metrics(file: Path, size: int) -> None:
    """Refuse records that do not reach to a checkpoint that stood at ``size`` bytes of them."""
    found = file.stat().st_size if file.exists() else 0
    if found < size:
        raise ValueError(
            f"{file} is shorter than at the checkpoint ({found:,} instead of {size:,} bytes): put "
            "it back, or start another run with --resume never"
        )
