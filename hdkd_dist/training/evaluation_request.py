"""What ``evaluate.py`` is asked for, and what is wrong with it, before the long work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from hdkd_dist.data.manifest import Manifest, data_folder, read_manifest
from hdkd_dist.inference.confidence import CONFIDENCES
from hdkd_dist.inference.results import read_results
from hdkd_dist.inference.trained import load_network, read_run, trained_on

SPLITS = {"validation": "metaval", "test": "test"}


@dataclass(frozen=True)
class Options:
    """What ``evaluate.py`` was asked for."""

    data: str | None
    batch: int
    workers: int
    confidence: str
    latency_batch: int
    save_logits: bool


def named_runs(run: Sequence[str] | str) -> list[Path]:
    """The folders of ``--run A --run B`` or ``--run A,B``.

    Raises:
        ValueError: if one is named twice.
    """
    words = [run] if isinstance(run, str) else run
    names = [name.strip() for word in words for name in str(word).split(",")]
    if not all(names) or len(set(names)) != len(names):
        raise ValueError(f"--run needs the folders of different runs, not {', '.join(names)}")
    return [Path(name) for name in names]


def manifest_of(folder: Path, data: str | None) -> Manifest:
    """The data set that a run is evaluated on: its own, unless ``data`` names another."""
    named = read_run(folder)["hdkd"]["data"]["path"] if data is None else str(data)
    return read_manifest(data_folder(named))


def check_classes(folder: Path, own: Manifest, measured: Manifest) -> None:
    """Refuse data whose labels mean something else than those that a run was trained with."""
    if own.classes == measured.classes:
        return
    pairs = enumerate(zip_longest(own.classes, measured.classes), start=1)
    place, (ours, theirs) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
    raise ValueError(
        f"{measured.folder} has {len(measured.classes)} classes and {folder} was trained on "
        f"{len(own.classes)}; the first to differ is number {place}, {theirs!r} instead of "
        f"{ours!r}: give data with the same classes"
    )


def check_own_data(folder: Path, own: Manifest, found: Manifest) -> None:
    """Refuse to note results of other splits, which may hold what the run was trained on."""
    if own.digest != found.digest:
        raise ValueError(
            f"{found.folder} is no longer what {folder} was trained on (its splits have another "
            f"sha256): prepare it again as it was, or measure on it with --data {found.folder}"
        )


def check_writable(folders: Sequence[Path]) -> None:
    """Refuse folders that results cannot be written to."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"cannot write results to {folder}: {error.strerror}") from None
        if not os.access(folder, os.W_OK):
            raise ValueError(f"cannot write results to {folder}: you may not write there")


def check_request(folders: Sequence[Path], options: Options, out: Path) -> None:
    """Find what is wrong before the long work.

    Raises:
        ValueError: for impossible options, runs on different images or classes, weights or results
            that are damaged, or folders that cannot be written.
    """
    numbers = {
        "--batch": options.batch,
        "--workers": options.workers,
        "--latency_batch": options.latency_batch,
    }
    for flag, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{flag} must be a whole number from 1 on, not {value!r}")
    if options.confidence not in CONFIDENCES:
        known = " or ".join(CONFIDENCES)
        raise ValueError(f"--confidence must be {known}, not {options.confidence!r}")
    manifests = [manifest_of(folder, options.data) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        own = trained_on(folder) or manifest
        check_classes(folder, own, manifest)
        if options.data is None:
            check_own_data(folder, own, manifest)
        load_network(folder, read_run(folder), len(manifest.classes))
        read_results(folder)
    for split in SPLITS.values():
        if len({manifest.splits[split].sha256 for manifest in manifests}) > 1:
            raise ValueError(
                f"the runs have different {split} splits: one curve needs one data set, see --data"
            )
    written = list(folders) if options.data is None else []
    check_writable([*written, out] if len(folders) > 1 else written)
