"""Checkpoints on the disk: complete or not there, checked by sha256, the last and the best kept.

A checkpoint is a folder ``step-00001234`` (``step-00001234-evaluated`` where the epoch that ends
there has been evaluated too) with DeepSpeed's files, one file per rank, and
``checkpoint.json``, which lists all of them with their sha256 and says in plain JSON what run they
belong to. Nothing here unpickles.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from hdkd_dist.data.manifest import sha256_of
from hdkd_dist.data.staging import publish
from hdkd_dist.files.replacing import replace_file
from hdkd_dist.files.strict_json import read_json_object, to_json
from hdkd_dist.runs.folder import STEP, checkpoints_in, rename_aside

FORMAT = 1
MANIFEST = "checkpoint.json"
PARTIAL = ".partial"
POINTERS = ("latest", "best")  # files beside the checkpoints, each with the name of one


class Damaged(ValueError):
    """A checkpoint that is not what was written."""


class Unreadable(ValueError):
    """A checkpoint that may be as it was written, and cannot be read here and now."""


@dataclass(frozen=True)
class FileChecksum:
    """Size and sha256 of one file of a checkpoint."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """Content of ``checkpoint.json``; the tensors are in the files beside it.

    Attributes:
        folder: where it lies (not part of the file).
        step: optimiser steps taken.
        epoch: epochs trained and evaluated.
        world_size: the number of ranks that wrote it.
        validation: top-1 accuracy on the validation split in percent, mean over exits, where the
            checkpoint was taken right after an evaluation.
        config: the run's whole configuration.
        data: sha256 of each split's file.
        files: by name.
    """

    folder: Path
    step: int
    epoch: int
    world_size: int
    validation: float | None
    config: Mapping[str, Any]
    data: Mapping[str, str]
    files: Mapping[str, FileChecksum]


def name_of(step: int, evaluated: bool) -> str:
    """Name the folder of a step's checkpoint, before or after the evaluation at an epoch's end."""
    return f"step-{step:08d}" + ("-evaluated" if evaluated else "")


def step_of(folder: Path) -> int | None:
    """Read the step from the name of a checkpoint's folder; None for another name."""
    match = STEP.fullmatch(folder.name)
    return int(match[1]) if match else None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read ``checkpoint.json``.

    Raises:
        Damaged: if ``checkpoint.json`` is missing or is not what was written.
        Unreadable: if the file system fails, or the checkpoint is another version's.
    """
    try:
        content = read_json_object(folder / MANIFEST)
        if content.pop("sha256") != sha256_of_json(content):
            raise Damaged(f"{folder} is damaged: {MANIFEST} has been changed")
        if content.pop("format") != FORMAT:
            raise Unreadable(f"{folder} was written by another version of this project")
        files = {name: FileChecksum(**entry) for name, entry in content.pop("files").items()}
        checkpoint = Checkpoint(folder=folder, files=files, **content)
        check_names(checkpoint)
        return checkpoint
    except (Damaged, Unreadable):
        raise
    except OSError as error:
        raise fault_of(folder, MANIFEST, error) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{folder} is damaged: {MANIFEST} cannot be read ({error})") from None


def sha256_of_json(content: Mapping[str, Any]) -> str:
    """Hash a JSON object, whatever the order of its keys."""
    return hashlib.sha256(to_json(content, sort_keys=True).encode()).hexdigest()


def check_names(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint under another step's name, and files that lie elsewhere.

    Raises:
        Damaged: naming the fault.
    """
    folder, named = checkpoint.folder, step_of(checkpoint.folder)
    if named not in (None, checkpoint.step):
        raise Damaged(f"{folder} is damaged: it is a copy of step {checkpoint.step}")
    for name in checkpoint.files:
        if name != Path(name).name:
            raise Damaged(f"{folder} is damaged: {MANIFEST} lists {name!r}, which lies elsewhere")


def check_nothing_added(checkpoint: Checkpoint) -> None:
    """Refuse files that were not written with a checkpoint: DeepSpeed would unpickle them.

    Raises:
        Damaged: naming the first.
    """
    found = {path.name for path in checkpoint.folder.iterdir() if path.suffix == ".pt"}
    if added := sorted(found - checkpoint.files.keys()):
        raise Damaged(
            f"{checkpoint.folder} is damaged: {MANIFEST} does not list {added[0]}, which was not "
            "written with it"
        )


def verify_checkpoint(checkpoint: Checkpoint) -> None:
    """Read every file of a checkpoint and compare its sha256.

    Raises:
        Damaged: naming the first file that is missing, truncated, changed or not listed.
        Unreadable: if the file system fails.
    """
    check_nothing_added(checkpoint)
    for name, written in checkpoint.files.items():
        file = checkpoint.folder / name
        try:
            size = file.stat().st_size
            if size != written.bytes:
                fault = f"has {size:,} bytes instead of {written.bytes:,}"
            elif sha256_of(file) != written.sha256:
                fault = "has another sha256 than when it was written"
            else:
                continue
        except OSError as error:
            raise fault_of(checkpoint.folder, name, error) from None
        raise Damaged(f"{checkpoint.folder} is damaged: {name} {fault}")


def fault_of(folder: Path, name: str, error: OSError) -> ValueError:
    """Turn an error in reading a checkpoint's file into ours: only a missing file is damage."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Damaged(f"{folder} is damaged: {name} cannot be read ({error.strerror})")
    return Unreadable(
        f"{folder / name} cannot be read at present ({error.strerror}): nothing has been changed; "
        "start again when the file system answers"
    )


def partial_of(folder: Path) -> Path:
    """Name the hidden folder of a checkpoint that is being written or removed."""
    return folder.with_name(f".{folder.name}{PARTIAL}")


def start_writing(folder: Path) -> None:
    """Make the empty partial folder; what killed saves have left is removed."""
    clean(folder.parent)
    partial_of(folder).mkdir(parents=True)


def clean(checkpoints: Path) -> None:
    """Remove what is not complete, as far as the file system lets it go."""
    for left in checkpoints.glob(f".*{PARTIAL}"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()


def complete(checkpoint: Checkpoint) -> None:
    """Turn the written partial folder into the checkpoint in one step; ``latest`` then names it.

    Raises:
        OSError: if that fails; the earlier checkpoints are as they were.
    """
    content = {"format": FORMAT} | asdict(checkpoint)
    del content["folder"]
    partial = partial_of(checkpoint.folder)
    content["sha256"] = sha256_of_json(content)  # of itself
    (partial / MANIFEST).write_text(to_json(content, indent=1) + "\n", encoding="utf-8")
    if not publish(partial, checkpoint.folder):
        raise FileExistsError(0, "is in the way", str(checkpoint.folder))
    point("latest", checkpoint.folder)


def point(pointer: str, folder: Path) -> None:
    """Let the file ``pointer`` beside a checkpoint hold its name, as DeepSpeed's tools expect."""
    replace_file(folder.parent / pointer, folder.name)


def rotate(checkpoints: Path, keep: int, step: int) -> None:
    """Remove all but the last ``keep`` checkpoints and the best; ``best`` names that one.

    Checkpoints beyond ``step``, where the run stands now, are not its own: they do not count and
    are not removed.
    """
    found = [path for path in checkpoints_in(checkpoints) if (step_of(path) or 0) <= step]
    best = best_of(found)
    if best is not None:
        point("best", best.folder)
    for folder in found[:-keep]:
        if best is None or folder != best.folder:
            remove(folder)


def best_of(found: Iterable[Path]) -> Checkpoint | None:
    """Find the checkpoint with the highest validation accuracy, the earlier of equal ones."""
    judged: list[Checkpoint] = []
    for folder in found:
        try:
            checkpoint = read_checkpoint(folder)
        except (Damaged, Unreadable):
            continue
        if checkpoint.validation is not None:
            judged.append(checkpoint)
    return max(judged, key=lambda found: (found.validation, -found.step), default=None)


def remove(folder: Path) -> None:
    """Remove a checkpoint; it disappears at once, so that no half of one is ever seen."""
    hidden = partial_of(folder)
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """Rename a checkpoint that is not to be continued from; returns its new name."""
    return rename_aside(folder, "aside")


class HashingFile:
    """Binary file that keeps the sha256 of all that is written to it, in order."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.failure: OSError | None = None  # torch's writer replaces it by an error of its own

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        self._sha256.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.failure = error
            raise
        size = memoryview(data).nbytes
        self.size += size
        return size

    def flush(self) -> None:
        """Hand everything over to the system."""
        self._file.flush()

    @property
    def written(self) -> FileChecksum:
        """Return size and sha256 of what has been written so far."""
        return FileChecksum(self.size, self._sha256.hexdigest())


def write_checked(content: Any, path: Path) -> FileChecksum:
    """Write with ``torch.save`` and wait until the file has reached the disk.

    Raises:
        OSError: if it cannot be written.
    """
    with path.open("wb") as file:
        hashing = HashingFile(file)
        try:
            torch.save(content, cast(IO[bytes], hashing))  # needs write and flush
        except RuntimeError:
            if hashing.failure is not None:
                raise hashing.failure from None
            raise
        file.flush()
        os.fsync(file.fileno())
    return hashing.written
