"""End a run in which a rank dies or hangs, with a line that names it, instead of waiting.

A thread of every rank reports to a store on rank 0 that its process lives and how far the main
thread has come; rank 0 decides. What died on a rank's own host is seen there at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist

from hdkd_dist.distributed import ranks
from hdkd_dist.distributed.signals import FAILED, LOST, STOPPED, leave


class Process(NamedTuple):
    """A rank's process."""

    host: str
    pid: int
    started: str  # by the system's clock, so that a reused pid is not mistaken for it


def introduce() -> list[Process]:
    """Gather every rank's process; collective."""
    processes: list[Any] = [None] * ranks.world_size()
    own = Process(socket.gethostname(), os.getpid(), state_of(os.getpid())[1])
    dist.all_gather_object(processes, own, group=ranks.host_group())
    return processes


def neighbours(processes: list[Process]) -> list[int]:
    """List the other ranks whose processes can be seen from here (containers may hide them)."""
    here = processes[ranks.rank()].host
    return [
        rank
        for rank, process in enumerate(processes)
        if rank != ranks.rank() and process.host == here and not is_dead(process)
    ]


def is_dead(process: Process) -> bool:
    """Tell whether a process of this host has ended."""
    state, started = state_of(process.pid)
    return state in ("", "Z", "X") or started != process.started


def state_of(pid: int) -> tuple[str, str]:
    """Read the system's letter for a process's state, and its start; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]


Item = TypeVar("Item")


@dataclass
class ProgressMark:
    """Mark of how far the main thread has come; another thread reads it."""

    count: int = 0  # rises with every movement, equally on all ranks
    step: int = 0
    activity: str = "preparing"

    def move(self, activity: str, step: int | None = None) -> None:
        """Note that the main thread has got to ``activity``."""
        self.activity = activity
        self.step = self.step if step is None else step
        self.count += 1

    def reading(self, batches: Iterator[Item]) -> Iterator[Item]:
        """Yield the same batches; note when they are waited for and when they are worked on."""
        while True:
            self.move("reading data" if self.step else "compiling the loader")
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.move("computing" if self.step else "computing the first step")
            yield batch


SILENCE = 60.0  # seconds without a sign of life after which a process counts as lost
ROUND = 1.0  # seconds between two reports
LINGER = 3  # rounds for which rank 0 keeps a verdict readable; failures of the store in a row
VERDICT = "verdict"
BROKEN = ("gloo", "nccl", "connection", "closed by peer", "broken pipe", "timed out")
UNTIMED = ("preparing", "finishing")  # activities begin so that may take hours


@dataclass
class RankReport:
    """Newest report of a rank; its age counts rank 0's own rounds, for rank 0 may be suspended."""

    report: str = ""
    count: int = -1
    silent: int = 0  # rounds without a new report
    still: int = 0  # rounds in which the main thread has not moved
    step: int = 0
    activity: str = ""

    def update(self, report: str) -> None:
        """Take in a rank's newest report."""
        self.silent = self.silent + 1 if report == self.report else 0
        self.report = report
        _, count, step, self.activity = report.split(" ", 3)
        self.still = self.still + 1 if int(count) == self.count else 0
        self.count, self.step = int(count), int(step)


@dataclass
class Watchdog:
    """Watches over the ranks from a thread, from ``with`` on."""

    timeout: float  # seconds in which every rank must get somewhere while it trains
    mark: ProgressMark = field(default_factory=ProgressMark)

    def __enter__(self) -> Watchdog:
        self.round = min(ROUND, self.timeout / 10)
        self.silence = min(SILENCE, self.timeout)
        self._closed = threading.Event()
        self._rounds = 0
        self._reports = [RankReport() for _ in range(ranks.world_size())]
        self._processes = introduce()
        self._neighbours = neighbours(self._processes)
        self._store = shared_store(timedelta(seconds=self.silence))
        self._report()
        dist.barrier(group=ranks.host_group())  # everyone has reported once
        self._threads = [
            threading.Thread(target=work, name="watchdog", daemon=True)
            for work in (self._watch, self._oversee)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RuntimeError) and is_broken_connection(error):
            time.sleep(self.silence + LINGER * self.round)  # until the thread knows who is to blame
        elif error is not None and not isinstance(error, ValueError | SystemExit):
            failed = f"{self._name(ranks.rank())} has failed, see its own message"
            self._judge(failed, LOST if is_device_fault(error) else FAILED, ending=False)
        self._closed.set()
        for thread in self._threads:
            thread.join(LINGER * self.round)
        with contextlib.suppress(RuntimeError):
            self._store.set(f"left/{ranks.rank()}", "")

    @property
    def summary(self) -> str:
        """Say how many ranks there are, and on which hosts."""
        hosts = Counter(process.host for process in self._processes)
        places = ", ".join(f"{count} on {host}" for host, count in hosts.items())
        return f"{ranks.world_size()} ranks: {places}"

    def tell_stop(self, signal_name: str) -> None:
        """Let all ranks leave as asked, before training; from any thread."""
        text = f"stopped by {signal_name} before training began"
        with contextlib.suppress(RuntimeError):
            self._store.compare_set(VERDICT, "", f"{STOPPED} {ranks.rank()} {text}")
            if ranks.rank() == 0:
                time.sleep(LINGER * self.round)

    def _watch(self) -> None:
        failures = 0
        while not self._closed.wait(self.round):
            try:
                self._report()
                if self._store.check([VERDICT]):
                    self._end(self._store.get(VERDICT).decode(), speak=False)
                if self.mark.activity != "finishing":
                    self._look_around()
                failures = 0
            except RuntimeError:  # among them torch's own; the store does not answer
                failures += 1
                if failures >= LINGER and not self._closed.is_set():
                    lost = f"{self._name(0)} has ended or cannot be reached"
                    self._end(f"{LOST} 0 {lost}", speak=self._is_speaker)

    def _oversee(self) -> None:
        """Leave if :meth:`_watch` hangs: it waits without limit for a stopped rank 0's store."""
        seen, silent = 0, 0
        while not self._closed.wait(self.round):
            silent = silent + 1 if self._rounds == seen else 0
            seen = self._rounds
            if silent * self.round > self.silence:
                lost = f"{self._name(0)} has given no sign of life for {self.silence:.0f} s"
                self._end(f"{LOST} 0 {lost}", speak=self._is_speaker)

    def _report(self) -> None:
        self._rounds += 1
        mark = self.mark
        report = f"{self._rounds} {mark.count} {mark.step} {mark.activity}"
        self._store.set(f"report/{ranks.rank()}", report)

    def _look_around(self) -> None:
        for rank in self._neighbours:
            if is_dead(self._processes[rank]) and not self._has_left(rank):
                self._judge(f"{self._name(rank)} has ended unexpectedly")
        if ranks.rank() != 0:
            return
        texts = self._store.multi_get([f"report/{r}" for r in range(ranks.world_size())])
        for report, text in zip(self._reports, texts, strict=True):
            report.update(text.decode())
        for rank, report in enumerate(self._reports):
            if report.silent * self.round > self.silence and not self._has_left(rank):
                gone = f"{self._name(rank)} has given no sign of life for {self.silence:.0f} s"
                self._judge(f"{gone}, last at step {report.step}, {report.activity}")
        self._look_for_hang()

    def _look_for_hang(self) -> None:
        least = min(report.count for report in self._reports)
        slowest = [rank for rank, report in enumerate(self._reports) if report.count == least]
        first = self._reports[slowest[0]]
        if first.activity.startswith(UNTIMED) or first.still * self.round <= self.timeout:
            return
        everyone = len(slowest) == len(self._reports) > 1
        who = "every rank" if everyone else ", ".join(map(self._name, slowest))
        where = f"has not moved for {self.timeout:.0f} s, at step {first.step}, {first.activity}"
        self._judge(f"{who} {where}")

    def _has_left(self, rank: int) -> bool:
        """Tell whether a rank has left in good order."""
        return self._store.check([f"left/{rank}"])

    @property
    def _is_speaker(self) -> bool:
        """Tell whether this is the first rank on its host, besides rank 0."""
        hosts = [process.host for process in self._processes]
        return ranks.rank() == hosts.index(hosts[ranks.rank()], 1)

    def _name(self, rank: int) -> str:
        return f"rank {rank} (on {self._processes[rank].host})"

    def _judge(self, text: str, status: int = LOST, ending: bool = True) -> None:
        verdict = f"{status} {ranks.rank()} {text}"
        with contextlib.suppress(RuntimeError):
            agreed = self._store.compare_set(VERDICT, "", verdict).decode()
            if ending:
                self._end(agreed, speak=agreed == verdict)

    def _end(self, verdict: str, speak: bool) -> None:
        status, _judge, text = verdict.split(" ", 2)
        if ranks.rank() == 0:
            time.sleep(LINGER * self.round)
        hint = "start again with --resume auto"
        if int(status) == LOST:
            text = f"\nerror: {text}: all ranks end; {hint}"  # on a line below a progress bar
        leave(text if speak else "", int(status))


def shared_store(timeout: timedelta) -> dist.TCPStore:
    """Open a key-value store on rank 0, for this watchdog alone; collective.

    torch's own store is not used: a thread that waits for it would block the main thread.
    """
    host = os.environ["MASTER_ADDR"]
    server: list[dist.TCPStore] = []

    def serve() -> int:
        server.append(
            dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timeout)
        )
        return server[0].port

    port = ranks.from_leader(serve)
    return server[0] if server else dist.TCPStore(host, port, is_master=False, timeout=timeout)


def is_device_fault(error: BaseException) -> bool:
    """Whether an error is a GPU's own (a bad memory cell, a lost bus), not that it is full."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)


def is_broken_connection(error: RuntimeError) -> bool:
    """Tell whether an error is that of a collective which another rank has not joined."""
    return isinstance(error, dist.DistError) or any(w in str(error).lower() for w in BROKEN)
