"""Checkpoints on schedule, a stop on signals, and progress reported to the watchdog."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdkd_dist.data.streams import MicroBatch
from hdkd_dist.distributed import ranks
from hdkd_dist.distributed.ranks import NOTHING, SAVE, DelayedMax
from hdkd_dist.distributed.signals import LOST, STOPPED, StopRequests
from hdkd_dist.distributed.watchdog import ProgressMark
from hdkd_dist.models.accuracy import percentages
from hdkd_dist.training.build import Run
from hdkd_dist.training.checkpointing import files
from hdkd_dist.training.checkpointing.state import write_snapshot
from hdkd_dist.training.measure import Progress
from hdkd_dist.training.tracking import warn

# A best epoch is saved unless that came sooner than this many times what a save takes.
BEST_PAUSE = 100


class Stopped(SystemExit):
    """Stop of all ranks, as one of them was asked to; ``text`` says how the run can go on."""

    def __init__(self, text: str, status: int):
        super().__init__(status)
        self.text = text


@dataclass(frozen=True)
class RunIdentity:
    """Configuration, data and records of a run, which every checkpoint of it names."""

    config: Mapping[str, Any]
    data: Mapping[str, str]  # sha256 of each split
    records: Callable[[], Mapping[str, Any]]  # where its records end; called on rank 0


class Saver:
    """Saver of one rank; all ranks call the same methods at the same places."""

    def __init__(
        self,
        run: Run,
        progress: Progress,
        folder: Path,
        identity: RunIdentity,
        requests: StopRequests,
        mark: ProgressMark,
    ):
        self.run = run
        self.progress = progress
        self.folder = folder  # of checkpoints
        self.identity = identity
        self.requests = requests
        self.mark = mark
        self.settings = run.settings.checkpoint
        self._wishes = DelayedMax()
        self._saved_step = progress.step
        self._tried_step = progress.step  # where a save was last tried
        self._tried = time.monotonic()  # when that was
        self._asked = False  # whether this rank has just asked for a save that is due
        self._cost = 0.0  # seconds that the last one took

    def after_step(self) -> None:
        """Save or stop if that is due; after each step, and each batch of an evaluation.

        Raises:
            Stopped: on all ranks at the same place, after a checkpoint.
        """
        self.mark.move("computing", self.progress.step)
        agreed = self._wishes.exchange(self._wish())
        by_step = self.settings.every_steps
        due = by_step is not None and self.progress.step % by_step == 0
        again = agreed == NOTHING and self.progress.step == self._tried_step  # it has failed here
        if (agreed != NOTHING or due) and self.progress.step != self._saved_step and not again:
            self.save()
        if agreed > SAVE:
            self._stop(agreed)

    def _wish(self) -> int:
        minutes = self.settings.every_minutes
        waited = time.monotonic() - self._tried
        due = ranks.rank() == 0 and minutes is not None and waited >= 60 * minutes
        # A wish counts one step later: the next one must not ask for the same save again.
        due = self._asked = due and not self._asked
        return self.requests.received or (SAVE if due else NOTHING)

    def _stop(self, number: int) -> None:
        found = files.folders(self.folder)
        kept = f"the last checkpoint is {found[-1]}" if found else "there is no checkpoint"
        # What could not be saved is lost work: a job must not be requeued for that without end.
        saved = self.progress.step == self._saved_step
        raise Stopped(
            f"stopped by {signal.Signals(number).name} at step {self.progress.step}: {kept}; "
            "the same command with --resume auto goes on from there",
            STOPPED if saved else LOST,
        )

    def end_epoch(self) -> None:
        """Save after an evaluation if it was the best so far; without one there is none."""
        validation = self._validation
        if validation is None:
            return

        def worth_it() -> bool:
            best = files.best_of(files.folders(self.folder))
            better = best is None or best.validation is None or best.validation < validation
            return better and time.monotonic() - self._tried >= BEST_PAUSE * self._cost

        if ranks.from_leader(worth_it):
            self.save(validation)

    def end_training(self) -> None:
        """Save after the last epoch, so that what comes after need not train again."""
        if self.progress.step != self._saved_step:
            self.save(self._validation)
        self.mark.move("computing")

    @property
    def _validation(self) -> float | None:
        if self.progress.validation is None:
            return None
        top1, _ = percentages(self.progress.validation)
        return sum(top1) / len(top1)

    def save(self, validation: float | None = None) -> None:
        """Write a checkpoint; if that fails, say so and go on. Collective."""
        self.mark.move("saving")
        self._tried, step = time.monotonic(), self.progress.step
        self._tried_step = step
        folder = self.folder / files.name_of(step, validation is not None)
        records: dict[str, Any] = {}

        def begin() -> None:
            files.start_writing(folder)
            records.update(self.identity.records())

        fault = ranks.leader_tries(begin)
        if fault is None:
            partial = files.partial_of(folder)
            listed, fault = write_snapshot(self.run, self.progress, partial, records)
        if fault is None:
            written = files.Checkpoint(
                folder=folder,
                step=step,
                epoch=self.progress.epoch,
                world_size=ranks.world_size(),
                validation=validation,
                config=self.identity.config,
                data=self.identity.data,
                files=listed,
            )
            fault = ranks.leader_tries(lambda: files.complete(written))
        if fault is None:
            self._saved_step = step
            kept = ranks.leader_tries(lambda: files.rotate(self.folder, self.settings.keep))
            if kept is not None and ranks.rank() == 0:
                warn(f"{folder} is written, but older ones were not removed ({first_line(kept)})")
        elif ranks.rank() == 0:
            files.clean(self.folder)
            self._complain(step, fault)
        self._cost = time.monotonic() - self._tried
        self.mark.move("computing")

    def _complain(self, step: int, fault: str) -> None:
        found = files.folders(self.folder)
        kept = f"the last one is {found[-1].name}" if found else "there is none yet"
        warn(
            f"no checkpoint could be written at step {step} ({first_line(fault)}): "
            f"{kept}; training goes on and tries again when the next one is due"
        )

    def stoppable(self, batches: Iterator[MicroBatch], rounds: int) -> Iterator[MicroBatch]:
        """Yield an evaluation's batches; a request to stop is met between two of them.

        Args:
            batches: this rank's.
            rounds: the number of batches of the rank that has most.
        """
        for _ in range(rounds):
            self.mark.move("reading data")
            batch = next(batches, None)
            self.mark.move("computing")
            if batch is not None:
                yield batch
            self.after_step()


def first_line(fault: str) -> str:
    """Return the first line of a fault's message."""
    return fault.splitlines()[0]
