"""Reading ``metrics.jsonl``, also of a run that is still writing, or was killed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from hdkd_dist.files.strict_json import open_regular, parse_json
from hdkd_dist.runs.folder import METRICS

MAX_LINE = 1 << 20  # bytes of an event, 1 MB


def run_folders(words: Sequence[str]) -> list[Path]:
    """Find the folders among these, or among what patterns match, that hold ``metrics.jsonl``.

    Raises:
        ValueError: if a name leads nowhere, or none leads to a run.
    """
    folders: dict[Path, None] = {}
    for word in map(str, words):
        matches = [word] if os.path.exists(word) else sorted(glob(word))  # "a[1]" may be a name
        if not matches:
            raise ValueError(f"there is no {word}: name folders of runs, as in --runs runs/*")
        folders |= {Path(match).resolve(): None for match in matches}
    found = [folder for folder in folders if os.path.isfile(folder / METRICS)]
    if not found:
        named = ", ".join(map(str, words)) or "nothing"
        raise ValueError(f"no folder that holds {METRICS} among {named}: name those of runs")
    return found


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the events of a run, in order; also of one that is still writing, or was killed."""
    return read_events(folder)[0]


def read_events(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Read the events as :func:`read_metrics`, and count the lines that hold none.

    A killed run leaves a line without its end. No step is there twice: a resumed run first cuts the
    file to what it was at the checkpoint.
    """
    events: list[dict[str, Any]] = []
    unreadable = 0
    for line in lines_of(folder / METRICS):
        event = parse_event(line)
        if event is None:
            unreadable += 1
        else:
            events.append(event)
    return events, unreadable


def lines_of(file: Path) -> Iterator[bytes]:
    """Read a file's lines up to one that is longer than ``MAX_LINE``, of which a part comes.

    No run writes such a line: what follows, be it a terabyte, is none of its records.

    Raises:
        OSError: see :func:`open_regular`.
    """
    with open_regular(file) as stream:
        while line := stream.readline(MAX_LINE):
            yield line
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                return


def last_event(file: Path) -> dict[str, Any] | None:
    """Read the event on a file's last line, however large the file; None if there is none.

    Raises:
        OSError: see :func:`open_regular`.
    """
    with open_regular(file) as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - MAX_LINE))
        lines = stream.read(MAX_LINE).splitlines()
    return parse_event(lines[-1]) if lines else None


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Parse the event that a line holds; None if it holds none."""
    try:
        event = parse_json(line)
    except ValueError:
        return None
    whole = isinstance(event, dict) and type(event.get("step")) is int and "event" in event
    return event if whole else None
