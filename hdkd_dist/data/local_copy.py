"""A verified copy of a prepared data set on a node's own disk, for training to read."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from hdkd_dist.data.manifest import FILE_NAME, Manifest, read_manifest, verify
from hdkd_dist.data.staging import publish, staging_folder
from hdkd_dist.data.verified import remember, verify_content

RESERVE = 1 << 28  # bytes left free for others


def copy_of(manifest: Manifest, folder: Path) -> Path:
    """Where below ``folder`` the copy of this very content lies."""
    content = "".join(split.sha256 for split in manifest.splits.values())
    return folder / f"{manifest.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def make_local_copy(manifest: Manifest, folder: Path) -> None:
    """Copy the data set below ``folder`` unless it is there; every file's sha256 is compared.

    A copy that is there is read again only where that was not done since it was written.

    The copy appears complete or not at all. A damaged one is replaced.

    Raises:
        ValueError: in one line, if it cannot be made, or the data set itself is damaged.
    """
    copy = copy_of(manifest, folder)
    if copy.exists():
        try:
            verify_content(replace(manifest, folder=copy))
            return
        except (ValueError, OSError):
            shutil.rmtree(copy, ignore_errors=True)
    needed = sum(split.bytes for split in manifest.splits.values())
    try:
        with staging_folder(copy) as partial:
            free = shutil.disk_usage(partial).free
            if free < needed + RESERVE:
                raise ValueError(
                    f"hdkd.data.local_copy: {folder} has {free / 1e9:.1f} GB left, the data set "
                    f"needs {needed / 1e9:.1f} GB: free some space or leave local_copy out"
                )
            for name in [FILE_NAME, *(split.file for split in manifest.splits.values())]:
                shutil.copyfile(manifest.folder / name, partial / name)
            verify_copy(replace(manifest, folder=partial), manifest.folder)
            publish(partial, copy)
            remember(replace(manifest, folder=copy))
    except OSError as error:
        raise ValueError(
            f"hdkd.data.local_copy: cannot copy {manifest.folder} to {folder} ({error.strerror}): "
            "choose another folder or leave local_copy out"
        ) from error


def verify_copy(copy: Manifest, source: Path) -> None:
    """Compare a fresh copy with the manifest; a difference is blamed on the source."""
    try:
        verify(copy)
    except ValueError:
        raise ValueError(
            f"the copy of {source} differs from its {FILE_NAME}: the data set is damaged; remove "
            "the folder and prepare it again"
        ) from None


def read_local_copy(manifest: Manifest, folder: Path) -> Manifest:
    """Read the data set's copy below ``folder``; ``ValueError`` if there is none."""
    return read_manifest(copy_of(manifest, folder))
