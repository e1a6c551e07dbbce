"""Progress of a run on stderr: a bar in a terminal, a line per record in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from tqdm import tqdm


@dataclass(frozen=True)
class StepRecord:
    """What one record says of training, for people to read."""

    step: int  # optimiser steps taken
    epoch: int  # from 1
    rate: float  # θ's learning rate
    cross_entropies: Sequence[float]  # per exit, [K]
    distillation: float | None  # mean of the losses KD i→j; None where nobody teaches
    sum_ratio: float  # Σγ/Σγ₀
    images_per_s: float


class Console(Protocol):
    """Show a run's progress on one rank."""

    def record(self, record: StepRecord) -> None:
        """Show the means over the steps since the last record."""

    def note(self, text: str) -> None:
        """Show one line beside the progress."""

    def close(self) -> None:
        """End the progress, so that what is printed next has lines of its own."""


class Bar:
    """Show progress as a bar, which needs a terminal."""

    def __init__(self, steps: int, epochs: int, first: int = 0):
        self.epochs = epochs
        self._bar = tqdm(
            total=steps, initial=first, unit="step", dynamic_ncols=True, mininterval=0.5
        )

    def record(self, record: StepRecord) -> None:
        """Move the bar; it shows the last exit's cross-entropy."""
        self._bar.set_postfix_str(
            f"epoch {record.epoch}/{self.epochs}, CE {record.cross_entropies[-1]:.3f}, "
            f"Σγ/Σγ₀ {record.sum_ratio:.3f}, {record.images_per_s:.0f} images/s",
            refresh=False,
        )
        self._bar.update(record.step - self._bar.n)

    def note(self, text: str) -> None:
        """Print the line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is; a second call does nothing."""
        self._bar.close()


class Lines:
    """Show progress as lines with the time of day, for log files."""

    def __init__(self, steps: int, epochs: int, first: int = 0):
        self.steps, self.epochs, self.first = steps, epochs, first
        self._started = time.monotonic()

    def record(self, record: StepRecord) -> None:
        """Print a line with all that is worth a look while a run trains."""
        losses = " ".join(f"{value:.3f}" for value in record.cross_entropies)
        taught = "" if record.distillation is None else f" KD {record.distillation:.3f}"
        self.note(
            f"epoch {record.epoch}/{self.epochs}  step {record.step}/{self.steps}  "
            f"rate {record.rate:.4g}  loss CE {losses}{taught}  "
            f"Σγ/Σγ₀ {record.sum_ratio:.3f}  {record.images_per_s:.0f} images/s  "
            f"{self._left(record.step)} left"
        )

    def _left(self, step: int) -> timedelta:
        """Estimate from the steps so far, evaluations and saves among them."""
        per_step = (time.monotonic() - self._started) / max(step - self.first, 1)
        return timedelta(seconds=round(per_step * (self.steps - step)))

    def note(self, text: str) -> None:
        """Print the line with the time of day."""
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing: every line has ended."""


class Silence:
    """Show nothing, on ranks other than the first."""

    def record(self, record: StepRecord) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def open_console(steps: int, epochs: int, first: int, speaks: bool) -> Console:
    """Choose how progress is shown: as a bar in a terminal, as lines elsewhere.

    Args:
        steps: of the whole run.
        epochs: of the whole run.
        first: steps that an earlier start has taken.
        speaks: whether this rank shows anything.
    """
    if not speaks:
        return Silence()
    return (Bar if terminal_width() else Lines)(steps, epochs, first)


def terminal_width() -> int:
    """Return the columns of the terminal that stderr is; 0 if it is none, or does not say."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # a file; a stream without a number
        return 0
