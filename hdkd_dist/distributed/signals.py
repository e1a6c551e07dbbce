"""Requests to stop: SIGTERM, SIGUSR1, SIGUSR2, SIGHUP and Ctrl-C, or a launcher that has ended.

Python runs a signal's handler when the main thread gets round to it, which may be never where that
waits for another rank. But the system writes the signal's number into a socket at once, and a
thread reads it there.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hdkd_dist.data.staging import discard_open
from hdkd_dist.distributed.processes import Process, is_dead, launchers

# Exit statuses; after STOPPED and LOST the same command with --resume auto goes on.
STOPPED = 75  # stopped as asked
LOST = 76  # another rank was lost, or what a stop should have saved
FAILED = 70  # another rank has failed by a fault of its own, which would come again
INTERRUPTED = 128 + signal.SIGINT
HANDLED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
GLANCES = 1.0  # seconds between two looks at the launcher
STDERR = 2  # its descriptor


class StopRequests:
    """Requests to stop that this process has received.

    Before training there is nothing to save, and the process leaves at once. While it trains
    (:meth:`patience`), a request waits in ``received`` for the next step; a second Ctrl-C does not.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal's number
        self.before_leaving: Callable[[str], None] = lambda name: None  # tells the other ranks
        self._patient = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Let requests wait until they are looked at, instead of leaving at once."""
        self._patient = True
        try:
            yield
        finally:
            self._patient = False

    def read(self) -> None:
        """Read signals until the process ends; a thread's work."""
        while True:
            for number in self._reader.recv(64):
                if number in HANDLED:
                    self.react(number)

    def react(self, number: int) -> None:
        """React to one signal."""
        let_go_of_lost_outputs()
        if number == signal.SIGINT and self.received == signal.SIGINT:
            print("\ninterrupted again: stopping at once", file=sys.stderr, flush=True)
            os._exit(INTERRUPTED)
        self.received = self.received or number
        if not self._patient:
            name = signal.Signals(number).name
            self.before_leaving(name)
            leave(f"stopped by {name} before training began")
        elif number == signal.SIGINT and os.environ.get("RANK", "0") == "0":
            print("\nstopping after a checkpoint; Ctrl-C again stops at once", file=sys.stderr)

    def follow(self, starters: list[Process]) -> None:
        """Stop as by SIGTERM when one of the launcher's processes ends; a thread's work."""
        while not any(map(is_dead, starters)):
            time.sleep(GLANCES)
        let_go_of_lost_outputs()
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print("\nthe launcher has ended: the ranks stop as well", file=sys.stderr, flush=True)
        self.react(signal.SIGTERM)


def listen() -> StopRequests:
    """React to the signals from now on; call it in the main thread."""
    requests = StopRequests()
    for number in HANDLED:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup: the run is to outlive its terminal
        signal.signal(number, lambda *_: None)  # the thread does the work
    signal.set_wakeup_fd(requests._writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=requests.read, name="signals", daemon=True).start()
    if starters := launchers():
        threading.Thread(
            target=requests.follow, args=(starters,), name="launcher", daemon=True
        ).start()
    faulthandler.enable(STDERR)  # a crash in C says where
    return requests


def leave(message: str, status: int = STOPPED) -> None:
    """End this process from any thread; half-written folders are removed."""
    discard_open()
    let_go_of_lost_outputs()
    if message:
        print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)


def let_go_of_lost_outputs() -> None:
    """Write to nowhere instead of a terminal that was closed or a pipe without a reader.

    Otherwise the next line of output would end the run before its checkpoint.
    """
    watch = select.poll()
    for output in (sys.stdout.fileno(), sys.stderr.fileno()):
        watch.register(output, 0)
    for output, event in watch.poll(0):
        if event & select.POLLERR:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
