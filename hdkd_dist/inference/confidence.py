"""How sure an exit is: the probability of its first guess, as it is or calibrated by temperature.

Calibration: Guo et al. 2017, "On Calibration of Modern Neural Networks". One temperature per exit,
fitted on validation; it changes no guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from hdkd_dist.inference.outputs import Outputs
from hdkd_dist.inference.runtime import top_probability
from hdkd_dist.models.accuracy import TOP

BINS = 15
NEWTON_STEPS = 30


def unit_temperatures(logits: Tensor, labels: Tensor) -> Tensor:
    """Leave the probabilities as they are: ones, [K]."""
    return torch.ones(len(logits))


def fitted_temperatures(logits: Tensor, labels: Tensor) -> Tensor:
    """Fit the temperature of each exit, [K], whose probabilities give ``labels`` the least NLL.

    The NLL is convex in 1/T: Newton's method, one exit after the other, for memory. An exit that is
    right on all N images would make T vanish and all its confidences 1: one in N + 2 labels counts
    as drawn from all classes alike (as in Platt 1999, "Probabilistic outputs for SVMs").

    Args:
        logits: [K, N, C], of validation images.
        labels: [N].
    """
    return torch.stack([_fitted_temperature(each.float(), labels) for each in logits])


def _fitted_temperature(logits: Tensor, labels: Tensor) -> Tensor:
    centred = logits - logits.mean(dim=1, keepdim=True)
    scale = centred.square().mean().sqrt().clamp_min(1e-12)
    own = centred.gather(1, labels[:, None]).mean() * (1 - 1 / (len(labels) + 2))
    inverse = torch.tensor(1.0)
    for _ in range(NEWTON_STEPS):
        probabilities = (inverse * centred).softmax(dim=1)
        means = (probabilities * centred).sum(dim=1)
        slope = means.mean() - own
        curvature = (probabilities * centred.square()).sum(dim=1).sub(means.square()).mean()
        moved = inverse - slope / curvature.clamp_min(1e-12)
        # No step far beyond where the quadratic model holds; T stays finite on separable data.
        moved = torch.minimum(torch.maximum(moved, inverse / 2), inverse * 2)
        inverse = moved.clamp(1e-3 / scale, 1e3 / scale)
    return 1 / inverse


CONFIDENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "max_probability": unit_temperatures,
    "calibrated": fitted_temperatures,
}
"""Kind of confidence → the exits' temperatures, from validation logits and labels."""


@dataclass(frozen=True)
class Judged:
    """A split as exit policies see it.

    Attributes:
        confidence: [K, N] float32, in 0..1: what thresholds are compared with.
        worth: [K, N] float32, of the first guess: halfway between right or wrong (1 or 0) and the
            calibrated probability that it is right. For searches on a small split.
        top1: [K, N] bool: the first guess is right.
        top5: [K, N] bool: one of the first five is right.
    """

    confidence: Tensor
    worth: Tensor
    top1: Tensor
    top5: Tensor


def judge(outputs: Outputs, temperatures: Tensor, fitted: Tensor) -> Judged:
    """Find confidence and correctness of every exit on every image.

    Args:
        outputs: of the split.
        temperatures: [K], of the kind of confidence that is compared with thresholds.
        fitted: [K], of :func:`fitted_temperatures`.
    """
    confidence, worth, top1, top5 = [], [], [], []
    for logits, own, calibrated in zip(outputs.logits, temperatures, fitted, strict=True):
        confidence.append(_confidence(logits, own))
        guesses = logits.topk(min(TOP, logits.shape[-1]), dim=-1).indices
        right = guesses == outputs.labels[:, None]
        worth.append((_confidence(logits, calibrated) + right[:, 0]) / 2)
        top1.append(right[:, 0])
        top5.append(right.any(dim=1))
    return Judged(*map(torch.stack, (confidence, worth, top1, top5)))


def _confidence(logits: Tensor, temperature: Tensor) -> Tensor:
    """Apply the runtime's own rule, so that thresholds mean the same to the last bit."""
    return torch.from_numpy(top_probability(logits.numpy(), float(temperature))[0])


@dataclass(frozen=True)
class Reliability:
    """One exit's confidence against its accuracy, in bins of equal width; empty bins are NaN.

    Attributes:
        share: [BINS], of the images.
        confidence: [BINS], mean.
        accuracy: [BINS].
        error: expected calibration error, in 0..1.
    """

    share: Tensor
    confidence: Tensor
    accuracy: Tensor
    error: float


def reliability(confidence: Tensor, right: Tensor) -> Reliability:
    """Compare one exit's confidence [N] with its correctness [N]."""
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    count = torch.bincount(bins, minlength=BINS).double()
    mean = torch.bincount(bins, confidence.double(), BINS) / count
    accuracy = torch.bincount(bins, right.double(), BINS) / count
    share = count / len(confidence)
    error = float((share * (mean - accuracy).abs()).nansum())
    return Reliability(share, mean, accuracy, error)


def ranking(confidence: Tensor, positive: Tensor) -> float:
    """Measure how well confidence tells images apart: the area under the ROC curve, in 0..1.

    The probability that an image drawn from ``positive`` is more confident than one drawn from the
    others; equal confidences count half (Mann and Whitney's U). 0.5 is chance; NaN where one of the
    two groups is empty.

    Args:
        confidence: [N].
        positive: [N] bool.
    """
    _, place, ties = confidence.unique(return_inverse=True, return_counts=True)
    ranks = ties.cumsum(0).double() - (ties.double() - 1) / 2  # 1-based, the mean of equal ones
    count = int(positive.sum())
    above = float(ranks[place][positive].sum()) - count * (count + 1) / 2
    pairs = count * (len(confidence) - count)
    return above / pairs if pairs else float("nan")


def rankings(judged: Judged) -> dict[str, list[float | None]]:
    """Measure each exit's ranking, which early exit lives on and calibration does not see.

    A calibrated exit may still rank badly, and ranking decides who leaves (Kubaty et al. 2025,
    "Failure Prediction Is a Better Performance Proxy for Early-Exit Networks Than Calibration").

    Returns:
        per exit ``right``, the ranking of images answered rightly above the others, and
        ``no_gain``: of images for which going on gains nothing (this exit is right, or no later one
        is) above those that a later exit would mend. None where there is nothing to rank.
    """
    later = torch.zeros_like(judged.top1[0])
    no_gain: list[Tensor] = []
    for right in reversed(judged.top1):
        no_gain.insert(0, right | ~later)
        later = later | right
    found: dict[str, Iterable[Tensor]] = {"right": judged.top1, "no_gain": no_gain}
    return {
        name: [
            None if math.isnan(value) else value
            for value in map(ranking, judged.confidence, groups)
        ]
        for name, groups in found.items()
    }
