"""Processes of this host, as the system sees them: whether one lives, and who has started us."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process of a rank or of a launcher."""

    host: str
    pid: int
    started: str  # by the system's clock, so that a reused pid is not mistaken for it


def process_of(pid: int) -> Process:
    """Describe a process of this host."""
    return Process(socket.gethostname(), pid, state_of(pid)[1])


def is_dead(process: Process) -> bool:
    """Tell whether a process of this host has ended."""
    state, started = state_of(process.pid)
    return state in ("", "Z", "X") or started != process.started


def state_of(pid: int) -> tuple[str, str]:
    """Read the system's letter for a process's state, and its start; empty if there is none."""
    fields = status_fields(pid)
    return (fields[0], fields[19]) if fields else ("", "")


def status_fields(pid: int) -> list[str]:
    """Read what ``/proc`` says of a process, from its state on; see proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def launchers() -> list[Process]:
    """List the processes without which this rank would be an orphan; empty without a launcher.

    Its parent, and of DeepSpeed's two processes on a node both. A run that was started by hand may
    outlive its shell.
    """
    if "RANK" not in os.environ:
        return []
    found = [process_of(os.getppid())]
    if "deepspeed.launcher.launch" in command_of(found[0].pid):
        runner = int(status_fields(found[0].pid)[1])
        if "deepspeed" in command_of(runner):
            found.append(process_of(runner))
    return [process for process in found if process.started]


def command_of(pid: int) -> str:
    """Read a process's command line; empty if there is none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace")
