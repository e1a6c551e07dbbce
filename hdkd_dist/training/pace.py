"""How fast a run is, and how long it waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")


class Mark(NamedTuple):
    """A moment of a training."""

    images: int
    seconds: float
    waiting: float


@dataclass
class Pace:
    """Counts images and seconds on the host's clock; evaluation and set-up are left out."""

    images: int = 0  # of the global batch, since the run began
    seconds: float = 0.0
    waiting: float = 0.0  # seconds in which the next batch was not ready
    _resumed: float | None = field(default=None, repr=False)

    def resume(self) -> None:
        """Training goes on from here."""
        self._resumed = time.perf_counter()

    def pause(self) -> None:
        """Training stops here, for an evaluation or the end."""
        self.seconds = self.elapsed
        self._resumed = None

    @property
    def elapsed(self) -> float:
        """Seconds of training so far."""
        running = 0.0 if self._resumed is None else time.perf_counter() - self._resumed
        return self.seconds + running

    def timed(self, batches: Iterator[Item]) -> Iterator[Item]:
        """The same batches; the time spent on waiting for them is counted."""
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waiting += time.perf_counter() - asked
            yield batch

    @property
    def mark(self) -> Mark:
        """Now, for :meth:`since`."""
        return Mark(self.images, self.elapsed, self.waiting)

    def since(self, mark: Mark) -> tuple[float, float]:
        """Images per second and share of time spent waiting since then."""
        seconds = max(self.elapsed - mark.seconds, 1e-9)
        waiting = min(1.0, (self.waiting - mark.waiting) / seconds)
        return (self.images - mark.images) / seconds, waiting

    def record(self) -> dict[str, float]:
        """The whole training, for ``results.json``."""
        images_per_second, waiting = self.since(Mark(0, 0.0, 0.0))
        return {
            "images_per_s": images_per_second,
            "wait_fraction": waiting,
            "seconds": self.elapsed,
        }
