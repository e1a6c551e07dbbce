"""A runtime that really stops early: stage by stage, only the images that go on are kept.

The rule of exit is here, once, in numpy; what runs a stage (onnxruntime, torch) is a ``Stages``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

CONFIDENCE_EDGES = (
    *(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    *(0.95, 0.98, 0.99, 0.995, 0.998, 0.999),
)
"""Between these are the bins of confidences that an export remembers: finest where most lie."""


@dataclass(frozen=True)
class Compaction:
    """How the rows of those who stay close up: the last of them move into the free places.

    At most half of the rows are copied, and torch's maps keep their memory format: the next stage
    is faster in channels_last, which an index would lose.

    Attributes:
        staying: how many rows are left.
        free: positions among the first ``staying`` rows: an array or tensor, as the rows are.
        movers: positions after them, as many, whose rows move to ``free``.
    """

    staying: int
    free: Any
    movers: Any

    @classmethod
    def without(cls, leaves: np.ndarray) -> Compaction:
        """Plan it for rows of which some leave, [B] bool."""
        staying = len(leaves) - int(np.count_nonzero(leaves))
        free = np.flatnonzero(leaves[:staying])
        return cls(staying, free, staying + np.flatnonzero(~leaves[staying:]))

    def apply(self, rows: Any) -> Any:
        """Overwrite an array or tensor [B, …] and give a view of it, [staying, …]."""
        if len(self.free):
            rows[self.free] = rows[self.movers]
        return rows[: self.staying]


class Stages(Protocol):
    """The stages of a network, in evaluation mode, one after the other.

    A state is what one stage hands to the next; it belongs to the caller of that stage.

    Attributes:
        num_exits: K.
        at_a_time: images that had better go through all stages together, where more are slower;
            None where they are not.
    """

    num_exits: int
    at_a_time: int | None

    def begin(self, images: np.ndarray) -> Any:
        """Give the first state of images [B, 3, H, W] float32, normalised."""

    def run(self, k: int, state: Any) -> tuple[Any, np.ndarray]:
        """Run stage ``k`` (0-based): the next state, and logits [B, C] float32."""

    def keep(self, state: Any, compaction: Compaction) -> Any:
        """Give the state of those who stay."""


class Answers(NamedTuple):
    """One answer per image, in the order of the images.

    Attributes:
        prediction: [B] int64, the class.
        exit: [B] int64, where the image left; 1 is the first.
        confidence: [B] float32, in 0..1.
    """

    prediction: np.ndarray
    exit: np.ndarray
    confidence: np.ndarray


def top_probability(logits: np.ndarray, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Find confidence and guess: the largest of softmax(logits / temperature), and its class.

    Args:
        logits: [..., C] float32.
        temperature: above 0.

    Returns:
        float32 [...] in 0..1, and int64 [...].

    Raises:
        ValueError: for logits that are not finite.
    """
    if not np.isfinite(logits).all():
        raise ValueError(
            "the network's outputs are not finite: its weights are damaged, or the images are not "
            "normalised as it has learned"
        )
    below_top = logits - logits.max(axis=-1, keepdims=True)
    below_top *= np.float32(1 / temperature)
    confidence = 1 / np.exp(below_top, out=below_top).sum(axis=-1)  # the top's own power is 1
    return confidence, logits.argmax(axis=-1)


def confidence_histogram(confidence: np.ndarray) -> np.ndarray:
    """Count what share of confidences [..., N] lies in each bin: [..., 16], summing to 1."""
    bins = np.searchsorted(CONFIDENCE_EDGES, confidence, side="right")
    places = range(len(CONFIDENCE_EDGES) + 1)
    return np.stack([(bins == place).mean(axis=-1) for place in places], axis=-1)


class EarlyExitRunner:
    """Runs a network with early exit.

    Args:
        stages: of the network.
        thresholds: [K]; an image leaves at the first exit whose confidence reaches its threshold,
            and at the last in any case.
        temperatures: [K], of the confidences; None for 1.

    Raises:
        ValueError: if their number is not that of the exits.
    """

    def __init__(
        self,
        stages: Stages,
        thresholds: Sequence[float],
        temperatures: Sequence[float] | None = None,
    ) -> None:
        exits = stages.num_exits
        self.stages = stages
        self.thresholds = list(thresholds)
        self.temperatures = [1.0] * exits if temperatures is None else list(temperatures)
        for name, values in (("thresholds", self.thresholds), ("temperatures", self.temperatures)):
            if len(values) != exits:
                raise ValueError(
                    f"a network of {exits} exits needs {exits} {name}, not {len(values)}"
                )

    def __call__(self, images: np.ndarray) -> Answers:
        """Answer for images [B, 3, H, W] float32, normalised; B may be 0.

        Raises:
            ValueError: for outputs that are not finite.
        """
        part = self.stages.at_a_time or max(len(images), 1)
        starts = range(0, max(len(images), 1), part)
        parts = [self._answer(images[start : start + part]) for start in starts]
        return Answers(*map(np.concatenate, zip(*parts, strict=True)))

    def _answer(self, images: np.ndarray) -> Answers:
        size = len(images)
        answers = Answers(
            np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.float32)
        )
        places = np.arange(size)  # of the images that are still under way
        state = self.stages.begin(images)
        last = self.stages.num_exits - 1
        for k in range(self.stages.num_exits):
            if not len(places):
                break
            state, logits = self.stages.run(k, state)
            confidence, guess = top_probability(logits, self.temperatures[k])
            answers.prediction[places] = guess  # those that go on are answered again
            answers.exit[places] = k + 1
            answers.confidence[places] = confidence
            if k == last:
                break
            leaves = confidence >= self.thresholds[k]
            if leaves.any():
                compaction = Compaction.without(leaves)
                places = compaction.apply(places)
                if len(places):
                    state = self.stages.keep(state, compaction)
        return answers


class AnytimePredictor:
    """Gives the answer of one exit after the other for the same images.

    Args:
        stages: of the network.
        temperatures: [K], of the confidences; None for 1.
        stage_seconds: [K], how long each stage takes (``StageTimes.of_batch``); with it, a stage
            that would end after the deadline is not begun.
    """

    def __init__(
        self,
        stages: Stages,
        temperatures: Sequence[float] | None = None,
        stage_seconds: Sequence[float] | None = None,
    ) -> None:
        self.stages = stages
        exits = stages.num_exits
        self.temperatures = [1.0] * exits if temperatures is None else list(temperatures)
        self.stage_seconds = [0.0] * exits if stage_seconds is None else list(stage_seconds)

    def answers(self, images: np.ndarray) -> Iterator[Answers]:
        """Yield the answers of exit 1, 2, …; stop asking at any time.

        Args:
            images: [B, 3, H, W] float32, normalised.
        """
        state = self.stages.begin(images)
        for k in range(self.stages.num_exits):
            state, logits = self.stages.run(k, state)
            confidence, guess = top_probability(logits, self.temperatures[k])
            yield Answers(guess, np.full_like(guess, k + 1), confidence)

    def predict(self, images: np.ndarray, deadline_s: float | None = None) -> Answers:
        """Give the best answer within ``deadline_s`` seconds; that of exit 1 in any case.

        Without a deadline, the last exit's.
        """
        end = None if deadline_s is None else time.perf_counter() + deadline_s
        answers = self.answers(images)
        best = next(answers)
        for seconds in self.stage_seconds[1:]:
            if end is not None and time.perf_counter() + seconds > end:
                break
            best = next(answers)
        return best
