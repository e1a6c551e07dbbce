"""Work through runs, side by side, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hdkd_dist.paper.ledger import Ledger, mark_done
from hdkd_dist.paper.scales import ROOT
from hdkd_dist.paper.trials import FROM_SOURCE, Folders, Trial, evaluate_words, train_words

STOPPED = (75, 76, 130, 137)  # what train.py leaves when the same command would go on
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
TRAIN, EVALUATE = ROOT / "hdkd_dist/train.py", ROOT / "hdkd_dist/evaluate.py"


@dataclass(frozen=True)
class Slot:
    """Say what a process has for its own: a device, or a core."""

    environment: Mapping[str, str] = field(default_factory=dict)
    core: int | None = None


@dataclass
class Workers:
    """Hold the processes that are running; a request to stop reaches all of them."""

    stopping: bool = False
    processes: set[subprocess.Popen] = field(default_factory=set)

    def call(self, words: Sequence[str], log: Path, slot: Slot) -> int:
        """Run a command; return its exit status. What it prints is appended to ``log``."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                words,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": searched_path(), **slot.environment},
                start_new_session=True,  # Ctrl-C reaches it through us, once
            )
            if slot.core is not None:
                os.sched_setaffinity(process.pid, {slot.core})
            self.processes.add(process)
            if self.stopping:
                process.send_signal(signal.SIGTERM)
            try:
                status = process.wait()
            finally:
                self.processes.discard(process)
        return 128 - status if status < 0 else status

    def stop(self, number: int, _frame: object) -> None:
        """Handle a signal: the runs save a checkpoint and end, and no other one starts."""
        self.stopping = True
        for process in list(self.processes):
            process.send_signal(number)


@contextmanager
def stopping_on_signals(workers: Workers) -> Iterator[None]:
    """Pass signals on to the running processes while this lasts."""
    before = {number: signal.signal(number, workers.stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def searched_path() -> str:
    """Give a process PYTHONPATH: this checkout first, then what this process was given."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(ROOT), *(os.path.abspath(folder) for folder in given if folder)])


def slots(jobs: int, per_device: int = 1) -> list[Slot]:
    """Return a place for each of the processes side by side.

    Args:
        jobs: how many there are.
        per_device: how many may share a GPU. Each then has one thread for its work on the host.

    Raises:
        ValueError: for more of them than there are places.
    """
    for flag, number in (("--jobs", jobs), ("--per_device", per_device)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{flag} must be a whole number from 1 on, not {number!r}")
    if jobs == 1:
        return [Slot()]
    devices = torch.accelerator.device_count()
    cores = sorted(os.sched_getaffinity(0))
    if not devices and per_device > 1:
        raise ValueError(f"--per_device {per_device} is for GPUs, and this machine has none")
    if jobs > (devices * per_device or len(cores)):
        what = f"{devices} devices" if devices else f"{len(cores)} cores"
        remedy = ": let --per_device runs share a device" if devices else ""
        raise ValueError(f"--jobs {jobs} is more than the {what} of this machine{remedy}")
    if devices:
        shared = {"OMP_NUM_THREADS": "1"} if per_device > 1 else {}
        names = visible_devices(devices) * per_device
        return [Slot({"CUDA_VISIBLE_DEVICES": name, **shared}) for name in names[:jobs]]
    return [Slot({"OMP_NUM_THREADS": "1"}, core) for core in cores[:jobs]]


def visible_devices(count: int) -> list[str]:
    """Name this process's own GPUs as ``CUDA_VISIBLE_DEVICES`` does; others' are not touched.

    Args:
        count: how many there are.
    """
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(count)] if inherited is None else inherited.split(",")[:count]


def train_and_evaluate(
    trial: Trial,
    taken: dict[str, Any],
    place: Folders,
    launcher: Sequence[str],
    workers: Workers,
    slot: Slot,
) -> int:
    """Train and evaluate one run; return 0, or the exit status of what did not end well."""
    log = place.out / f"{trial.name}.log"
    train = [*launcher, str(TRAIN), *train_words(trial, place, taken), "--resume", "auto"]
    evaluate = [sys.executable, str(EVALUATE), *evaluate_words(trial, place)]
    for words in [train, evaluate] if trial.test else [train]:
        if workers.stopping:
            return STOPPED[0]
        status = workers.call(words, log, slot)
        if status:  # an evaluation that is stopped knows no status of its own for that
            return STOPPED[0] if workers.stopping else status
    mark_done(trial, place)
    return 0


def execute(
    find: Callable[[], list[Trial]],
    ledger: Ledger,
    jobs: int,
    launcher: Sequence[str] = (sys.executable,),
    per_device: int = 1,
) -> dict[str, int]:
    """Work until nothing is left that can be done.

    Args:
        find: the runs that are wanted, as far as they can be named by now.
        ledger: knows the finished ones, and gets those that finish.
        jobs: how many at a time.
        launcher: what starts train.py.
        per_device: see :func:`slots`.

    Returns:
        Exit statuses by name of the runs that did not end well; a stopped one ends the work.
    """
    place, workers = ledger.place, Workers()
    free = slots(jobs, per_device)
    try:
        place.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {place.out} cannot be made: {error.strerror}") from None
    failed: dict[str, int] = {}
    running: dict[Future[int], tuple[Trial, Slot]] = {}
    with stopping_on_signals(workers), ThreadPoolExecutor(max_workers=jobs) as pool:
        while True:
            busy = {trial.name for trial, _ in running.values()}
            ready = [
                trial
                for trial in find()
                if not ledger.has(trial)
                and trial.name not in busy | failed.keys()
                and (trial.source is None or ledger.has(trial.source))
            ]
            while ready and free and not workers.stopping:
                trial, slot = ready.pop(0), free.pop(0)
                taken = taken_settings(trial, ledger)
                print(f"begins: {trial.name}", flush=True)
                call = pool.submit(train_and_evaluate, trial, taken, place, launcher, workers, slot)
                running[call] = (trial, slot)
            if not running:
                return failed
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for call in done:
                trial, slot = running.pop(call)
                free.append(slot)
                report(trial, call.result(), ledger, failed)
                workers.stopping |= call.result() in STOPPED


def taken_settings(trial: Trial, ledger: Ledger) -> dict[str, Any]:
    """Return the settings that a trial takes from the run it builds on; none without one."""
    if trial.source is None or trial.takes is None:
        return {}
    return FROM_SOURCE[trial.takes](ledger.source(trial.source, trial))


def report(trial: Trial, status: int, ledger: Ledger, failed: dict[str, int]) -> None:
    """Take in a run that has ended, or note that it did not end well."""
    if status:
        failed[trial.name] = status
        what = "stopped" if status in STOPPED else "failed"
        log = ledger.place.out / f"{trial.name}.log"
        print(f"{what} with status {status}: {trial.name}, see {log}", flush=True)
        return
    ledger.look([trial])
    record = ledger.records[trial.name]
    kind = "top1" if record.has_test else "val_top1"
    accuracies = " ".join(f"{value:.2f}" for value in record.exits(kind))
    print(f"finished: {trial.name}: {kind} per exit {accuracies}", flush=True)
