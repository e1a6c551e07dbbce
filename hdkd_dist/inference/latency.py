"""How long each stage takes on this machine, and what a policy will take."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hdkd_dist.inference.confidence import top_probability
from hdkd_dist.models import MultiExitNetwork, State

Rows = Sequence[Mapping[str, Any]]

ROUNDS = 7
SECONDS = 1.0  # of measuring at least: a few milliseconds may be a bad moment


@dataclass(frozen=True)
class StageTimes:
    """Measured seconds of every stage, for whole batches of several sizes.

    Attributes:
        sizes: [S], rising.
        seconds: [S, K].
    """

    sizes: Sequence[int]
    seconds: np.ndarray

    def of_batch(self, images: Sequence[float]) -> np.ndarray:
        """Seconds [K] of the stages for ``images`` [K] at each, linear between measured sizes."""
        sizes = [0, *self.sizes]
        columns = np.vstack([np.zeros_like(self.seconds[:1]), self.seconds]).T
        return np.array(
            [np.interp(n, sizes, column) for n, column in zip(images, columns, strict=True)]
        )

    def ms_per_image(self, batch: int) -> list[float]:
        """Milliseconds per image to leave at each exit, all images of the batch together."""
        exits = self.seconds.shape[1]
        return (1000 * self.of_batch([batch] * exits).cumsum() / batch).tolist()

    def expected_ms(self, batch: int, shares: Sequence[float]) -> float:
        """Milliseconds per image of a policy: later stages see smaller batches.

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


def in_time(rows: Rows, times: StageTimes, batch: int, budget_ms: float) -> list[Mapping[str, Any]]:
    """Those of the policies (rows of ``results.json``) that are expected to keep a budget.

    Args:
        rows: with ``val_shares``, by which they are judged.
        times: of the stages.
        batch: images at a time.
        budget_ms: mean milliseconds per image.
    """
    return [row for row in rows if times.expected_ms(batch, row["val_shares"]) <= budget_ms]


def sizes_up_to(batch: int) -> list[int]:
    """1, 2, 4, … and ``batch``."""
    return [1 << power for power in range((batch - 1).bit_length())] + [batch]


@torch.inference_mode()
def measure_stages(
    network: MultiExitNetwork,
    image_size: int,
    sizes: Sequence[int],
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> StageTimes:
    """Time every stage with its classifier and the look at its confidence; medians.

    The sizes take turns, so that a slow moment of the machine hits all.

    Args:
        network: in evaluation mode, where it shall run.
        image_size: side in pixels.
        sizes: images in a batch.
        rounds: measurements at least; one more, before them, does not count.
        seconds: how long to measure at least.
    """
    device = next(network.parameters()).device
    found: list[list[list[float]]] = [[] for _ in sizes]
    batches = [torch.randn(size, 3, image_size, image_size, device=device) for size in sizes]
    begin = time.perf_counter()
    for turn in itertools.count():
        if turn > rounds and time.perf_counter() - begin > seconds:
            break
        for times, images in zip(found, batches, strict=True):
            state = [images]
            stages = []
            for k in range(network.num_exits):
                start = time.perf_counter()
                state = _stage(network, k, state)
                stages.append(time.perf_counter() - start)
            if turn:
                times.append(stages)
    medians = [[statistics.median(stage) for stage in zip(*s, strict=True)] for s in found]
    return StageTimes(list(sizes), np.array(medians))


def _stage(network: MultiExitNetwork, k: int, state: State) -> State:
    state, logits = network.run_stage(k, state)
    confidence, _ = top_probability(logits.float())
    (confidence < 0).nonzero()  # as the runtime does: waits for the device
    return state
