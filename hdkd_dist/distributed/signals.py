"""Requests to stop: SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C.

Python runs a signal's handler when the main thread gets round to it, which may be never where that
waits for another rank. But the system writes the signal's number into a socket at once, and a
thread reads it there.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hdkd_dist.data.staging import discard_open

# Exit statuses; after STOPPED and LOST the same command with --resume auto goes on.
STOPPED = 75  # stopped as asked
LOST = 76  # another rank was lost, or what a stop should have saved
FAILED = 70  # another rank has failed by a fault of its own, which would come again
INTERRUPTED = 128 + signal.SIGINT
HANDLED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)


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


def listen() -> StopRequests:
    """React to the signals from now on; call it in the main thread."""
    requests = StopRequests()
    for number in HANDLED:
        signal.signal(number, lambda *_: None)  # the thread does the work
    signal.set_wakeup_fd(requests._writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=requests.read, name="signals", daemon=True).start()
    return requests


def leave(message: str, status: int = STOPPED) -> None:
    """End this process from any thread; half-written folders are removed."""
    discard_open()
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)
