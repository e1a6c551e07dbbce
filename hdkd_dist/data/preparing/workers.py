"""Work spread over processes: results in order, bounded memory, no worker outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")

JOBS_AHEAD = 4  # per worker: enough to keep it busy, few enough to bound the memory
WATCH_SECONDS = 0.5


class Bar(tqdm):
    """A progress bar without tqdm's monitor thread: forks and threads do not go together."""

    monitor_interval = 0


class LogFile:
    """Standard error for a progress bar where it is no terminal: a line for each state."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        """Write one state of the bar, without the carriage return that would hide the last one."""
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Do nothing: every line is flushed."""

    def isatty(self) -> bool:
        """Tell that this is no terminal."""
        return False


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))


def progress_bar(total: int | None, label: str, unit: str = " images") -> tqdm:
    """Progress on stderr with rate and remaining time; seldom refreshed where it goes to a file."""
    terminal = sys.stderr.isatty()
    return Bar(
        total=total,
        desc=label,
        unit=unit,
        mininterval=0.2 if terminal else 10.0,
        smoothing=0.05,
        file=sys.stderr if terminal else LogFile(),
    )


def ordered_map(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int
) -> Generator[Result, None, None]:
    """Yield ``function(job)`` for each job, in the order of the jobs.

    With one worker the work is done in this process, without a fork. ``function`` and all it refers
    to reach the workers by fork, so it need not be picklable; jobs and results are pickled.

    Raises:
        ValueError: a worker died. Whatever ``function`` raises is raised here.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    executor = ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("fork"),
        initializer=start_worker,
        initargs=(function, os.getpid()),
    )
    remaining = iter(jobs)
    running: deque[Future] = deque()
    try:
        for job in islice(remaining, JOBS_AHEAD * workers):
            running.append(executor.submit(run_job, job))
        while running:
            yield running.popleft().result()
            running.extend(executor.submit(run_job, job) for job in islice(remaining, 1))
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker process died, most likely killed for want of memory: use fewer --workers"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_function: Callable[[Any], Any] | None = None  # the worker's own; set by start_worker


def start_worker(function: Callable[[Any], Any], parent: int) -> None:
    """Prepare a worker process: signals are the parent's business, and it must not outlive it."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=exit_with, args=(parent,), daemon=True).start()


def exit_with(parent: int) -> None:
    """End this process once ``parent`` is gone: after SIGKILL it would wait for jobs for ever."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def run_job(job: Any) -> Any:
    """Run the worker's function on one job."""
    assert _function is not None
    return _function(job)
