"""How long each stage takes on this machine, and what a policy will take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hdkd_dist.inference.runtime import Stages, top_probability

Rows = Sequence[Mapping[str, Any]]

ROUNDS = 7
SECONDS = 1.0  # of measuring at least: a few milliseconds may be a bad moment
PERCENTILES = (50, 95, 99)
DRAWS = 4_000  # of batches, for the percentiles of a policy


@dataclass(frozen=True)
class StageTimes:
    """Measured seconds of every stage, for whole batches of several sizes.

    Attributes:
        sizes: [S], rising.
        rounds: [S, R, K], seconds in each of R rounds.
    """

    sizes: Sequence[int]
    rounds: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """The medians, [S, K]."""
        return np.median(self.rounds, axis=1)

    def of_batch(self, images: Sequence[float] | np.ndarray) -> np.ndarray:
        """Give the seconds [K] of the stages for ``images`` [K] at each."""
        return _between(self.sizes, self.seconds, np.asarray(images, float)[None])[0]

    def ms_per_image(self, batch: int) -> list[float]:
        """Give milliseconds per image to leave at each exit, all images of the batch together."""
        exits = self.rounds.shape[2]
        return (1000 * self.of_batch([batch] * exits).cumsum() / batch).tolist()

    def expected_ms(self, batch: int, shares: Sequence[float]) -> float:
        """Give the mean milliseconds per image of a policy: later stages see smaller batches.

        Args:
            batch: images at the first stage.
            shares: [K], of the images that leave at each exit.
        """
        reach = 1 - np.concatenate([[0.0], np.cumsum(shares)[:-1]])
        if batch == 1:  # one image is never a fraction of a batch
            seconds = reach * self.of_batch([1] * len(reach))
        else:
            seconds = self.of_batch(batch * reach)
        return 1000 * float(seconds.sum()) / batch

    def affordable(self, rows: Rows, batch: int, budget_ms: float) -> list[Mapping[str, Any]]:
        """Select the policies (rows of ``results.json``) that are expected to keep a budget.

        Args:
            rows: with ``val_shares``, by which they are judged.
            batch: images at a time.
            budget_ms: mean milliseconds per image.
        """
        return [row for row in rows if self.expected_ms(batch, row["val_shares"]) <= budget_ms]

    def batch_percentiles_ms(self, batch: int) -> list[dict[str, float]]:
        """Give per exit the percentiles of the milliseconds until a whole batch has left there."""
        place = int(np.searchsorted(self.sizes, batch))
        return [percentiles_ms(column) for column in self.rounds[place].cumsum(axis=1).T]

    def policy_percentiles_ms(self, batch: int, shares: Sequence[float]) -> dict[str, float]:
        """Give the percentiles of the milliseconds that a policy takes for a whole batch.

        Batches are drawn (fixed seed): each image's exit from ``shares``, each batch's times from
        one measured round.
        """
        generator = np.random.default_rng(0)
        exits = self.rounds.shape[2]
        probabilities = np.asarray(shares, float) / np.sum(shares)
        leaving = generator.multinomial(batch, probabilities, DRAWS)
        reaching = batch - np.pad(leaving.cumsum(axis=1)[:, :-1], ((0, 0), (1, 0)))
        drawn = generator.integers(self.rounds.shape[1], size=DRAWS)
        seconds = np.zeros(DRAWS)
        for place in np.unique(drawn):
            those = drawn == place
            stages = _between(self.sizes, self.rounds[:, place], reaching[those].astype(float))
            seconds[those] = stages[:, :exits].sum(axis=1)
        return percentiles_ms(seconds)


def percentiles_ms(seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Give ``p50``, ``p95`` and ``p99`` of durations [N], in milliseconds."""
    values = 1000 * np.percentile(seconds, PERCENTILES)
    return {f"p{p}": float(value) for p, value in zip(PERCENTILES, values, strict=True)}


def _between(sizes: Sequence[int], seconds: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Interpolate seconds [S, K] between measured sizes: for images [N, K], seconds [N, K]."""
    known = [0, *sizes]
    columns = np.vstack([np.zeros_like(seconds[:1]), seconds]).T
    pairs = zip(images.T, columns, strict=True)
    return np.stack([np.interp(counts, known, column) for counts, column in pairs], axis=1)


def sizes_up_to(batch: int) -> list[int]:
    """Give 1, 2, 4, … and ``batch``."""
    return [1 << power for power in range((batch - 1).bit_length())] + [batch]


def measure_stages(
    stages: Stages,
    image_size: int,
    sizes: Sequence[int],
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> StageTimes:
    """Time every stage with its classifier and the look at its confidence.

    The sizes take turns, so that a slow moment of the machine hits all.

    Args:
        stages: in the runtime and on the device that will be used.
        image_size: side in pixels.
        sizes: images in a batch.
        rounds: measurements at least; one more, before them, does not count.
        seconds: how long to measure at least.
        clock: gives seconds.
    """
    generator = np.random.default_rng(0)
    shape = (3, image_size, image_size)
    batches = [generator.standard_normal((size, *shape), np.float32) for size in sizes]
    found: list[list[list[float]]] = [[] for _ in sizes]
    begin = time.perf_counter()
    for turn in itertools.count():
        if turn > rounds and time.perf_counter() - begin > seconds:
            break
        for times, images in zip(found, batches, strict=True):
            measured = _time_stages(stages, images, clock)
            if turn:
                times.append(measured)
    return StageTimes(list(sizes), np.array(found))


def _time_stages(stages: Stages, images: np.ndarray, clock: Callable[[], float]) -> list[float]:
    state = stages.begin(images)
    times = []
    for k in range(stages.num_exits):
        start = clock()
        state, logits = stages.run(k, state)
        confidence, _ = top_probability(logits)
        (confidence < 0).any()  # as the runtime does
        times.append(clock() - start)
    return times
