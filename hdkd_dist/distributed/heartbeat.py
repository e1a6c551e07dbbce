"""Say what a run is busy with where that takes longer than ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from hdkd_dist.distributed.watchdog import ProgressMark

FIRST = 10.0  # seconds until a person begins to wonder


@dataclass
class Heartbeat:
    """Say what the main thread is busy with, from ``with`` on, while its mark does not move.

    The first line comes after ``first`` seconds, each further one when the time has doubled.
    """

    mark: ProgressMark
    say: Callable[[str], None]
    first: float = FIRST

    def __enter__(self) -> Heartbeat:
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        count, since, due = self.mark.count, time.monotonic(), self.first
        while not self._closed.wait(self.first / 10):
            waited = time.monotonic() - since
            if self.mark.count != count:
                count, since, due = self.mark.count, time.monotonic(), self.first
            elif waited >= due:
                self.say(f"still {self.mark.activity} ({waited:.0f} s)")
                due *= 2
