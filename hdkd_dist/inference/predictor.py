"""Anytime prediction: a first answer soon, better ones until time is up."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hdkd_dist.inference.confidence import top_probability
from hdkd_dist.inference.runtime import Answers
from hdkd_dist.models import MultiExitNetwork


class AnytimePredictor:
    """Gives the answer of one exit after the other for the same images.

    Args:
        network: in evaluation mode.
        temperatures: [K], of the confidences; None for 1.
        stage_seconds: [K], how long each stage takes (``StageTimes.of_batch``); with it, a stage
            that would end after the deadline is not begun.
    """

    def __init__(
        self,
        network: MultiExitNetwork,
        temperatures: Sequence[float] | None = None,
        stage_seconds: Sequence[float] | None = None,
    ) -> None:
        self.network = network
        exits = network.num_exits
        self.temperatures = [1.0] * exits if temperatures is None else list(temperatures)
        self.stage_seconds = [0.0] * exits if stage_seconds is None else list(stage_seconds)

    def answers(self, images: Tensor) -> Iterator[Answers]:
        """Yield the answers of exit 1, 2, …; stop asking at any time.

        Args:
            images: [B, 3, H, W], normalised.
        """
        state = [images]
        for k in range(self.network.num_exits):
            with torch.inference_mode():  # not around the yield: the caller's code is not ours
                state, logits = self.network.run_stage(k, state)
                confidence, guess = top_probability(logits.float(), self.temperatures[k])
            yield Answers(guess, torch.full_like(guess, k), confidence)

    def predict(self, images: Tensor, deadline_s: float | None = None) -> Answers:
        """The best answer within ``deadline_s`` seconds from now; that of exit 1 in any case.

        Without a deadline, the last exit's.
        """
        end = None if deadline_s is None else time.perf_counter() + deadline_s
        for k, best in enumerate(self.answers(images)):
            if end is None or k + 1 == self.network.num_exits:
                continue
            best.prediction.cpu()  # wait for the device: time passes there
            if time.perf_counter() + self.stage_seconds[k + 1] > end:
                break
        return best
