"""How far a rank's main thread has come, for the watch to see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass
class Pulse:
    """How far the main thread has come."""

    count: int = 0  # rises with every movement, equally on all ranks
    step: int = 0
    place: str = "preparing"

    def moved(self, place: str, step: int | None = None) -> None:
        """The main thread has got to ``place``."""
        self.place = place
        self.step = self.step if step is None else step
        self.count += 1

    def reading(self, batches: Iterator[Item]) -> Iterator[Item]:
        """The same batches; waiting for one is another place than working with it."""
        while True:
            self.moved("reading data")
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.moved("computing")
            yield batch
