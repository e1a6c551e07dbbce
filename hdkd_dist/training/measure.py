"""Measurements between two records, kept on the device so that no step waits for the host."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from hdkd_dist.distributed import ranks
from hdkd_dist.method.algorithm import Seen
from hdkd_dist.method.objective import LossLayout
from hdkd_dist.runs.results import TrainingSpeed

NEVER = torch.iinfo(torch.int64).max
REMEDY = "lower hdkd.schedule.base_lr or hdkd.gamma.lr, or lengthen hdkd.schedule.warmup_epochs"
WATCHED = ("loss", "weight γ of", "hypergradient of")


class Diverged(ValueError):
    """Loss, weight or gradient of θ that is no longer a finite number."""


class Drifted(ValueError):
    """Ranks that no longer hold the same γ, E_k and T."""


@dataclass(frozen=True)
class Summary:
    """Means over the steps since the last record and over all ranks."""

    losses: list[float]  # ℓ, [n]
    top1: list[float]  # training accuracy per exit in percent, [K]
    hypergradient_norm: float | None  # mean over the steps of γ; None if there was none
    gradient_norm: float | None  # ‖∇L_train‖, root mean square over the steps


class Meter:
    """Sums of what the steps measured; read it at the same steps on all ranks.

    Args:
        num_exits: K.
        device: of this rank.
        terms: names of the losses that the configuration adds.
    """

    def __init__(self, num_exits: int, device: torch.device, terms: Sequence[str] = ()):
        self.layout = LossLayout(num_exits, tuple(terms))
        self.steps = 0  # since the last reading
        self.device = device
        self._first_bad = torch.full((len(WATCHED), len(self.layout)), NEVER, device=device)
        self._clear()

    def _clear(self) -> None:
        self._losses = torch.zeros(len(self.layout), device=self.device)
        self._correct = torch.zeros(self.layout.num_exits, device=self.device)
        self._norm = torch.zeros((), device=self.device)
        self._squares = torch.zeros((), device=self.device)  # Σ ‖∇L_train‖²
        self._drift = torch.zeros((), device=self.device)
        self._images = 0
        self.steps = 0
        self._gamma_steps = 0
        self._gradients = 0

    def state(self) -> dict[str, Any]:
        """Return what has been measured since the last reading, for a checkpoint."""
        return {
            "losses": self._losses,
            "correct": self._correct,
            "norm": self._norm,
            "squares": self._squares,
            "gradients": self._gradients,
            "drift": self._drift,
            "first_bad": self._first_bad,
            "images": self._images,
            "steps": self.steps,
            "weights_steps": self._gamma_steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        for name in ("losses", "correct", "norm", "squares", "drift", "first_bad"):
            setattr(self, f"_{name}", state[name].to(self.device, copy=True))
        self._images, self._gamma_steps = state["images"], state["weights_steps"]
        self.steps, self._gradients = state["steps"], state["gradients"]

    @staticmethod
    def merged(states: Sequence[Mapping[str, Any]], world_size: int) -> dict[str, Any]:
        """Merge the states of some ranks to what each of another number of ranks takes over."""

        def stacked(name: str) -> Tensor:
            return torch.stack([state[name] for state in states])

        return {
            **states[0],  # the counts of steps, and the norm, are those of all ranks
            "losses": stacked("losses").mean(dim=0),
            "squares": stacked("squares").mean(dim=0),
            "correct": stacked("correct").sum(dim=0) / world_size,
            "images": sum(state["images"] for state in states) / world_size,
            "drift": stacked("drift").amax(dim=0),
            "first_bad": stacked("first_bad").amin(dim=0),
        }

    def add(self, step: int, seen: Seen, gamma: Tensor, images: int) -> None:
        """Count what one step saw; ``images`` is this rank's part of the batch."""
        self._losses += seen.losses
        self._correct += seen.correct
        self._images += images
        self.steps += 1
        self._watch(0, seen.losses, step)
        self._watch(1, gamma, step)

    def add_gradient(self, squared_norm: Tensor) -> None:
        """Count one gradient of θ; the mean over ranks is that of the global batch."""
        self._squares += squared_norm
        self._gradients += 1

    def add_gamma_step(self, step: int, gradient: Tensor, drift: Tensor) -> None:
        """Count a step of γ: the hypergradient [n] and how far the ranks were apart."""
        self._norm += gradient.norm()
        self._gamma_steps += 1
        self._drift = torch.maximum(self._drift, drift)
        self._watch(2, gradient, step)

    def _watch(self, kind: int, entries: Tensor, step: int) -> None:
        bad_since = torch.where(torch.isfinite(entries), NEVER, step)
        self._first_bad[kind].clamp_(max=bad_since)

    def read(self) -> Summary:
        """Read the means since the last reading; collective.

        Raises:
            Diverged: naming the first step, rank and entry that was not finite, or the gradient.
            Drifted: if γ, E_k or T differed between ranks.
        """
        self._check_finite()
        drift = float(self._drift)
        if drift != 0:
            raise Drifted(
                f"γ, E_k or T differ between ranks by {drift:.3g}: a rank runs other "
                "code, another configuration or a faulty device"
            )
        losses, accuracy, norm, squares = ranks.mean_over_ranks(
            [
                self._losses / self.steps,
                100 * self._correct / self._images,
                self._norm,
                self._squares,
            ]
        )
        mean_norm = float(norm) / self._gamma_steps if self._gamma_steps else None
        gradient_norm = math.sqrt(float(squares) / self._gradients) if self._gradients else None
        if not math.isfinite(gradient_norm or 0):  # before the losses are, of which it comes
            raise Diverged(f"the gradient of θ is not finite since the last record: {REMEDY}")
        self._clear()
        return Summary(losses.tolist(), accuracy.tolist(), mean_norm, gradient_norm)

    def _check_finite(self) -> None:
        first_bad = ranks.gather_from_ranks(self._first_bad)  # [R, 3, n]
        step = int(first_bad.min())
        if step == NEVER:
            return
        rank, kind, entry = (int(place[0]) for place in torch.where(first_bad == step))
        what = f"{WATCHED[kind]} {self.layout.names[entry]}"
        raise Diverged(f"{what} is not finite at step {step} on rank {rank}: {REMEDY}")


Item = TypeVar("Item")


class Moment(NamedTuple):
    """Counts of a training at one moment, to measure from."""

    images: int
    seconds: float
    waiting: float


@dataclass
class Pace:
    """Count of images and seconds on the host's clock; evaluation and set-up are left out."""

    images: int = 0  # of the global batch, since the run began
    seconds: float = 0.0
    waiting: float = 0.0  # seconds in which the next batch was not ready
    _resumed: float | None = field(default=None, repr=False)

    def resume(self) -> None:
        """Start the clock: training goes on from here."""
        self._resumed = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock, for an evaluation or the end."""
        self.seconds = self.elapsed
        self._resumed = None

    @property
    def elapsed(self) -> float:
        """Return the seconds of training so far."""
        running = 0.0 if self._resumed is None else time.perf_counter() - self._resumed
        return self.seconds + running

    def timed(self, batches: Iterator[Item]) -> Iterator[Item]:
        """Yield the same batches; count the time spent on waiting for them."""
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
    def now(self) -> Moment:
        """Return this moment, for :meth:`since`."""
        return Moment(self.images, self.elapsed, self.waiting)

    def since(self, moment: Moment) -> tuple[float, float]:
        """Return images per second and the share of time spent waiting since then."""
        seconds = max(self.elapsed - moment.seconds, 1e-9)
        waiting = min(1.0, (self.waiting - moment.waiting) / seconds)
        return (self.images - moment.images) / seconds, waiting

    def totals(self) -> TrainingSpeed:
        """Sum up the whole training, for ``results.json``."""
        images_per_second, waiting = self.since(Moment(0, 0.0, 0.0))
        return {
            "images_per_s": images_per_second,
            "wait_fraction": waiting,
            "seconds": self.elapsed,
        }


@dataclass
class Progress:
    """Position of a run, which moves as it trains.

    The streams are functions of (seed, position): with θ, γ, their optimisers and each rank's
    running statistics this is all that the rest of a run depends on.
    """

    meter: Meter  # measurements since the last record
    pace: Pace = field(default_factory=Pace)
    step: int = 0  # optimiser steps taken
    epoch: int = 0  # epochs trained and evaluated; may lag step by the current evaluation
    metaval_batches: int = 0  # drawn from the meta-validation stream
    # Of the last evaluated epoch, see count_correct; None where the data have no split for it.
    validation: Tensor | None = None


def note_gradients(optimizer: torch.optim.Optimizer, meter: Meter, shards: int) -> None:
    """Let ``meter`` know ‖∇L_train‖² of the global batch before every step, on the device.

    Args:
        optimizer: θ's; under ZeRO 1 and 2 the one that holds this rank's shard.
        meter: takes means over ranks.
        shards: among how many ranks the gradient is divided; 1 if each has it whole.
    """

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        meter.add_gradient(shards * squared_norm(optimizer))

    optimizer.register_step_pre_hook(note)


def squared_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Sum g² over all parameters that have a gradient; returns a tensor without dimensions."""
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    return torch.stack(torch._foreach_norm(gradients)).square().sum()
