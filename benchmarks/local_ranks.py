"""Starts the ranks of a run on this machine as separate processes, to be killed or signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hdkd_dist.distributed.ranks import free_port
from hdkd_dist.paper.execution import searched_path

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / "hdkd_dist/train.py"


class LocalRanks:
    """A run of several ranks; each writes its output to ``rank<r>.log`` in ``folder``.

    ``before`` is called in each new process before the script starts.
    """

    def __init__(
        self,
        script: Path,
        words: Sequence[str | Path],
        ranks: int,
        folder: Path,
        before: Callable[[], None] | None = None,
        **environment: str,
    ):
        shared = {
            **os.environ,
            "PYTHONPATH": searched_path(),
            "OMP_NUM_THREADS": "1",
            "NUMBA_OPT": "0",  # FFCV's code is compiled again in each process: quickly, then
            "WORLD_SIZE": str(ranks),
            "LOCAL_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            **environment,
        }
        self.logs = [folder / f"rank{rank}.log" for rank in range(ranks)]
        self.processes = []
        for rank, log in enumerate(self.logs):
            with log.open("w") as output:
                process = subprocess.Popen(
                    [sys.executable, str(script), *map(str, words)],
                    cwd=folder,
                    env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=before,
                )
            self.processes.append(process)

    def send(self, number: signal.Signals, *only: int) -> None:
        """Send a signal to some ranks, or to all."""
        for rank in only or range(len(self.processes)):
            if self.processes[rank].poll() is None:
                self.processes[rank].send_signal(number)

    @property
    def running(self) -> bool:
        """Whether all ranks are there."""
        return all(process.poll() is None for process in self.processes)

    def wait(self, timeout: float = 300) -> list[int]:
        """Exit statuses; ranks that have not ended in time are killed and counted as -SIGKILL."""
        end = time.monotonic() + timeout
        try:
            for process in self.processes:
                process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
        return [process.wait() for process in self.processes]

    @property
    def output(self) -> str:
        """What all ranks have said so far."""
        return "".join(log.read_text(errors="replace") for log in self.logs)
