"""The ranks' processes, and whether those on this host are alive."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from hdkd_dist.training import ranks


class Process(NamedTuple):
    """A rank's process."""

    host: str
    pid: int
    started: str  # by the system's clock, so that a reused pid is not mistaken for it


def introduce() -> list[Process]:
    """Every rank's process; collective."""
    processes: list[Process | None] = [None] * ranks.world_size()
    own = Process(socket.gethostname(), os.getpid(), state_of(os.getpid())[1])
    dist.all_gather_object(processes, own, group=ranks.host_group())
    return processes


def neighbours(processes: list[Process]) -> list[int]:
    """The other ranks whose processes can be seen from here (containers may hide them)."""
    here = processes[ranks.rank()].host
    return [
        rank
        for rank, process in enumerate(processes)
        if rank != ranks.rank() and process.host == here and not is_dead(process)
    ]


def is_dead(process: Process) -> bool:
    """Whether a process of this host has ended."""
    state, started = state_of(process.pid)
    return state in ("", "Z", "X") or started != process.started


def state_of(pid: int) -> tuple[str, str]:
    """The system's letter for a process's state, and when it started; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
