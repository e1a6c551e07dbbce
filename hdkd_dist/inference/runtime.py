"""A runtime that really stops early: stage by stage, only the images that go on are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hdkd_dist.inference.confidence import top_probability
from hdkd_dist.inference.policy import NOBODY
from hdkd_dist.models import MultiExitNetwork


class Answers(NamedTuple):
    """One answer per image, in the order of the images.

    Attributes:
        prediction: [B] int64, the class.
        exit: [B] int64, where the image left, 0-based.
        confidence: [B] float32, in 0..1.
    """

    prediction: Tensor
    exit: Tensor
    confidence: Tensor


class EarlyExitRunner:
    """Runs a network in evaluation mode with early exit.

    Args:
        network: in evaluation mode.
        thresholds: [K]; an image leaves at the first exit whose confidence reaches its threshold,
            and at the last in any case.
        temperatures: [K], of the confidences; None for 1.

    Raises:
        ValueError: if their number is not that of the exits.
    """

    def __init__(
        self,
        network: MultiExitNetwork,
        thresholds: Sequence[float],
        temperatures: Sequence[float] | None = None,
    ) -> None:
        exits = network.num_exits
        self.network = network
        self.thresholds = list(thresholds)
        self.temperatures = [1.0] * exits if temperatures is None else list(temperatures)
        for name, values in (("thresholds", self.thresholds), ("temperatures", self.temperatures)):
            if len(values) != exits:
                raise ValueError(
                    f"a network of {exits} exits needs {exits} {name}, not {len(values)}"
                )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Answers:
        """Answer for images [B, 3, H, W], normalised; B may be 0."""
        size, device = len(images), images.device
        answers = Answers(
            torch.zeros(size, dtype=torch.int64, device=device),
            torch.zeros(size, dtype=torch.int64, device=device),
            torch.zeros(size, device=device),
        )
        places = torch.arange(size, device=device)  # of the images that are still under way
        state = [images]
        last = self.network.num_exits - 1
        for k, (threshold, temperature) in enumerate(
            zip(self.thresholds, self.temperatures, strict=True)
        ):
            if not len(places):
                break
            state, logits = self.network.run_stage(k, state)
            confidence, guess = top_probability(logits.float(), temperature)
            answers.prediction[places] = guess  # those that go on are answered again
            answers.exit[places] = k
            answers.confidence[places] = confidence
            if k == last:
                break
            leaves = confidence >= threshold
            if left := int(leaves.sum()):
                places, *state = without(leaves, left, [places, *state])
        return answers


def without(leaves: Tensor, left: int, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The rows of those who stay; the last of them move into the places that become free.

    At most half of the rows are copied, and maps keep their memory format: the next stage is faster
    in channels_last, which index_select would lose.

    Args:
        leaves: [B] bool.
        left: how many leave.
        tensors: each [B, …], overwritten.

    Returns:
        views, each [B - left, …].
    """
    staying = len(leaves) - left
    free = leaves[:staying].nonzero()[:, 0]
    movers = staying + leaves[staying:].logical_not().nonzero()[:, 0]
    for rows in tensors:
        rows[free] = rows[movers]
    return [rows[:staying] for rows in tensors]


def thresholds_of_exit(k: int, exits: int) -> list[float]:
    """The thresholds with which every image leaves at exit ``k`` (0-based)."""
    return [NOBODY] * k + [0.0] * (exits - k)
