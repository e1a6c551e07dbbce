"""Whether prepared data are what was written: read and hashed once per file, then remembered.

To read all of ImageNet takes minutes, and a start must not take minutes each time. So what was
read is noted in the user's cache, with the file's inode, size and times; a file of which none has
changed since is not read again.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from hdkd_dist.data.manifest import AGAIN, FILE_NAME, Manifest, sha256_of
from hdkd_dist.files.replacing import replace_file
from hdkd_dist.files.strict_json import read_json_object, to_json

LARGE = 1 << 30  # bytes to read that are worth a line beforehand


@dataclass(frozen=True)
class FileState:
    """What changes when a file is written, times in nanoseconds since 1970."""

    inode: int
    bytes: int
    modified: int
    changed: int  # also when it is renamed or gets another owner

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Look at a file; ``OSError`` if it cannot be found."""
        found = path.stat()
        return cls(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class Reading:
    """One reading of a whole file: its state then, what it held, and when that was (ISO 8601)."""

    path: str
    state: FileState
    sha256: str
    read_at: str


def verify_content(manifest: Manifest, splits: Iterable[str] | None = None) -> dict[str, str]:
    """Check that files hold what the manifest says, by sha256; only those are read that must be.

    Args:
        manifest: of the data set.
        splits: their names; default all.

    Returns:
        When each split's file was read, now or earlier, by name.

    Raises:
        ValueError: at the first file that holds something else or cannot be read.
    """
    names = list(manifest.splits if splits is None else splits)
    known = {name: recall(manifest.path(name)) for name in names}
    pending = [name for name in names if known[name] is None]
    size = sum(manifest.splits[name].bytes for name in pending)
    if size >= LARGE:
        print(
            f"reading {manifest.folder} once to verify it ({size / 1e9:.1f} GB)",
            file=sys.stderr,
            flush=True,
        )
    times = {}
    for name in names:
        path = manifest.path(name)
        found = known[name] or read_whole(path)
        if found.sha256 != manifest.splits[name].sha256:
            raise ValueError(f"{path} is damaged (its sha256 differs from {FILE_NAME}): {AGAIN}")
        times[name] = found.read_at
    return times


def remember(manifest: Manifest) -> None:
    """Note that a data set has just been written, and hashed from what was written."""
    for name, split in manifest.splits.items():
        path = manifest.path(name)
        note(Reading(str(path.resolve()), FileState.of(path), split.sha256, now()))


def read_whole(path: Path) -> Reading:
    """Hash a file and note what was found, unless it was written to meanwhile.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        before = FileState.of(path)
        found = Reading(str(path.resolve()), before, sha256_of(path), now())
        if FileState.of(path) == before:
            note(found)
        return found
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def recall(path: Path) -> Reading | None:
    """Return what the file was found to hold, if it is as it was then."""
    file = note_of(path)
    if file is None:
        return None
    try:
        values = read_json_object(file)
        found = Reading(**{**values, "state": FileState(**values["state"])})
        return found if found.state == FileState.of(path) else None
    except (OSError, ValueError, TypeError, KeyError):  # another version's, or damaged
        return None


def note(reading: Reading) -> None:
    """Remember a reading; without a cache that can be written the file is read again next time."""
    file = note_of(Path(reading.path))
    if file is not None:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, to_json(asdict(reading)) + "\n")


def note_of(path: Path) -> Path | None:
    """Name the file in the user's cache for what ``path`` holds; None without a home."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return cache / "hdkd_dist" / "verified" / f"{name}.json"


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601 has it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
