"""Decide where a run starts: at the beginning, or where an earlier one was interrupted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from hdkd_dist.config.load import SECTION, Config
from hdkd_dist.config.settings import Settings, without_retired
from hdkd_dist.data.manifest import Manifest
from hdkd_dist.distributed import ranks
from hdkd_dist.files.replacing import replacing
from hdkd_dist.files.strict_json import open_regular
from hdkd_dist.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    METRICS,
    RESULTS,
    WEIGHTS,
    checkpoints_in,
    hold,
    what_is_left,
)
from hdkd_dist.runs.metrics import last_event
from hdkd_dist.runs.names import flatten, plain
from hdkd_dist.runs.network import read_run
from hdkd_dist.training.checkpointing.files import (
    POINTERS,
    Checkpoint,
    Damaged,
    read_checkpoint,
    set_aside,
    verify_checkpoint,
)

# Settings that say how machines do the work, not what is computed: they may change in between.
FREE = (
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "steps_per_print",
    "hdkd.data.path",  # its content is compared instead
    "hdkd.data.workers",
    "hdkd.data.os_cache",
    "hdkd.data.local_copy",
    "hdkd.checkpoint",
    "hdkd.run.out",
    "hdkd.run.wandb",
    "hdkd.run.wandb_project",
    "hdkd.run.hang_timeout_s",
)
# Settings under which the tensors or the position of a checkpoint would mean something else, or
# which would have no effect any more.
FIXED = (
    "train_batch_size",
    "zero_optimization.stage",
    "optimizer.type",
    "hdkd.method",
    "hdkd.model",
    "hdkd.data.metaval_batch_size",
    "hdkd.loss",  # T and γ₀ go on from the checkpoint
    "hdkd.gamma.init",
    "hdkd.gamma.optimizer",
    "hdkd.run.seed",
)


def check_fit(
    checkpoint: Checkpoint, config: Config, manifest: Manifest, resume_changed: bool
) -> bool:
    """Tell whether the configuration differs from the checkpoint's.

    Raises:
        ValueError: if it differs without ``resume_changed``, or in what cannot change.
    """
    where = f"cannot continue {checkpoint.folder}"
    splits = manifest.identity
    if others := [name for name in splits if splits[name] != checkpoint.data.get(name)]:
        raise ValueError(
            f"{where}: it was trained on other data ({others[0]} of {manifest.folder} has another "
            "sha256): give the data set it began with, or --resume never"
        )
    stage = config.deepspeed.get("zero_optimization", {}).get("stage", 0)
    if stage and checkpoint.world_size != ranks.world_size():
        raise ValueError(
            f"{where} on {ranks.world_size()} rank(s): {checkpoint.world_size} wrote it, and ZeRO "
            f"stage {stage} has divided the optimiser among them; use as many, or stage 0 from "
            "the start"
        )
    differences = changed_settings(checkpoint.config, config.as_json())
    # With a sharded optimiser DeepSpeed clips as the checkpoint says.
    lasting = (*FIXED, "gradient_clipping") if stage else FIXED
    if fixed := [line for key, line in differences.items() if under(key, lasting)]:
        raise ValueError(
            f"{where}: {'; '.join(fixed)}: this cannot change within a run; start another one "
            "with --resume never"
        )
    if differences and not resume_changed:
        raise ValueError(
            f"{where}: the configuration has changed: {'; '.join(differences.values())}; "
            "go on all the same with --resume_changed true"
        )
    return bool(differences)


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """List what differs between two configurations and matters, "a → b" by dotted name."""
    old, new = flatten(with_defaults(before)), flatten(now)
    return {
        key: f"{key} {plain(old.get(key))!r} → {plain(new.get(key))!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and not under(key, FREE)
    }


def with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring an earlier version's configuration up to date; newer settings get their defaults."""
    try:
        earlier = without_retired(config.get(SECTION, {}))
        section = Settings.model_validate(earlier).model_dump(mode="json")
    except ValidationError:
        return config
    return {**config, SECTION: section}


def under(key: str, sections: tuple[str, ...]) -> bool:
    """Tell whether a dotted name is one of the given or lies in one of them."""
    return any(key == section or key.startswith(section + ".") for section in sections)


@dataclass(frozen=True)
class Start:
    """Decision of :func:`find_start`: where a run starts."""

    checkpoint: Path | None = None  # None: at the beginning
    world_size: int = 0  # of the ranks that wrote it
    changed: bool = False  # whether the configuration is another, with the user's consent
    finished: bool = False  # there is nothing left to do
    in_place: bool = False  # the run's folder is kept


def find_start(
    folder: Path, resume: str, resume_changed: bool, config: Config, manifest: Manifest
) -> Start:
    """Decide where the run starts; on rank 0 alone. Damaged checkpoints are named and set aside.

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
    left = what_is_left(folder)
    if left:
        hold(folder).close()  # no other process is training it
    if resume == "auto":
        if not left:
            return Start()
        if not checkpoints_in(folder / CHECKPOINTS):
            if not (folder / CONFIG).exists():
                raise ValueError(
                    f"{folder} holds {', '.join(left)} of an earlier run, but neither {CONFIG} nor "
                    "a checkpoint to go on from: choose another --out, or --resume never, which "
                    "moves it aside"
                )
            if is_finished(folder):
                check_same(folder, config)
                return Start(finished=True)
            print(f"{folder} has no checkpoint yet: it starts from the beginning")
            return Start(in_place=True)
        checkpoint = newest(folder / CHECKPOINTS)
    else:
        checkpoint = checkpoint_at(Path(resume).resolve())
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
    if differences := changed_settings(read_run(folder), config.as_json()):
        raise ValueError(
            f"{folder} holds a finished run with another configuration, and none of its "
            f"checkpoints ({'; '.join(differences.values())}): choose another --out, or start "
            "again with --resume never"
        )


def newest(checkpoints: Path) -> Checkpoint:
    """Find the newest intact checkpoint; damaged ones are named and set aside.

    Raises:
        Damaged: if no intact checkpoint is left; never restarts silently.
        Unreadable: if the file system fails; nothing is set aside then.
    """
    damage: list[tuple[Path, Damaged]] = []
    for folder in reversed(checkpoints_in(checkpoints)):
        try:
            checkpoint = read_checkpoint(folder)
            verify_checkpoint(checkpoint)
        except Damaged as error:
            damage.append((folder, error))
            continue
        for damaged, fault in damage:
            aside = set_aside(damaged)
            print(f"{fault}; the one before it is used ({damaged.name} is now {aside.name})")
        return checkpoint
    faults = "; ".join(str(fault) for _, fault in damage)
    raise Damaged(f"no checkpoint is left to go on from ({faults}): --resume never starts again")


def checkpoint_at(path: Path) -> Checkpoint:
    """Find the checkpoint at ``path``, or the newest of the run there.

    Args:
        path: of a checkpoint, of a run or its folder of checkpoints, or of the file ``latest`` or
            ``best`` there, which names one.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    for checkpoints in (path / CHECKPOINTS, path):
        if checkpoints_in(checkpoints):
            return newest(checkpoints)
    if path.name in POINTERS and path.is_file():
        path = path.with_name(path.read_text(encoding="utf-8", errors="replace").strip())
    if not path.is_dir():
        raise ValueError(
            f"--resume {path}: there is no such folder; give auto, never, the folder of a run or "
            "one of its checkpoints"
        )
    checkpoint = read_checkpoint(path)
    verify_checkpoint(checkpoint)
    return checkpoint


def is_finished(folder: Path) -> bool:
    """Tell whether the run in ``folder`` has come to its end."""
    try:
        last = last_event(folder / METRICS)
    except OSError:
        return False
    return last is not None and last["event"] == "end" and (folder / RESULTS).exists()


def continue_folder(folder: Path, start: Start) -> None:
    """Make the folder of a continued run as it was at its checkpoint; rank 0.

    Later checkpoints, left by a resume from an earlier one, are set aside, and what an earlier end
    of the run has left is removed: it would be taken for this one's.
    """
    (folder / RESULTS).unlink(missing_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    found = checkpoints_in(folder / CHECKPOINTS)
    by_age = [path.name for path in found]
    later = by_age.index(start.checkpoint.name) + 1 if start.checkpoint else 0
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
    with open_regular(source) as records, replacing(file) as partial, partial.open("wb") as kept:
        copy_start(records, kept, size)


def copy_start(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy the first ``size`` bytes."""
    while size and (block := source.read(min(size, 1 << 20))):
        size -= target.write(block)


def check_metrics(file: Path, size: int) -> None:
    """Refuse records that do not reach to a checkpoint that stood at ``size`` bytes of them."""
    found = file.stat().st_size if file.exists() else 0
    if found < size:
        raise ValueError(
            f"{file} is shorter than at the checkpoint ({found:,} instead of {size:,} bytes): put "
            "it back, or start another run with --resume never"
        )
