"""The two halves of a step of Algorithm 1: γ learns from a look-ahead, then θ from γ·ℓ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hdkd_dist.method.hypergradient import (
    SOLVERS,
    Example,
    Forward,
    Mean,
    Parameters,
    hypergradient,
)
from hdkd_dist.method.meta_objective import update_average
from hdkd_dist.method.objective import loss_vector
from hdkd_dist.method.temperature import anneal, confidence
from hdkd_dist.method.weights import step_weights
from hdkd_dist.training.harmony import Harmony
from hdkd_dist.training.settings import GammaSettings


class Engine(Protocol):
    """The part of ``deepspeed.DeepSpeedEngine`` that a step uses."""

    def __call__(self, images: Tensor, *, gradient_equilibrium: bool) -> Tensor:
        """Images → logits [K, B, C]."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of the mean of the micro-batches' losses."""

    def step(self) -> None:
        """At the last micro-batch: all-reduce the gradient and move θ."""


@dataclass(frozen=True)
class Measures:
    """What one step saw of its batch on this rank, on the device."""

    losses: Tensor  # ℓ, [n]
    correct: Tensor  # right predictions per exit, [K]


def learn_weights(
    harmony: Harmony,
    parameters: Parameters,
    train_forward: Forward,
    forward: Forward,
    train_batch: Sequence[Example],
    metaval_batch: Sequence[Example],
    *,
    step_size: float,
    settings: GammaSettings,
    mean: Mean,
) -> Tensor:
    """One step of γ (Alg. 1; Eqs. 8 to 10), from one look-ahead step of θ that is then forgotten.

    Args:
        harmony: γ and E_k move in place.
        parameters: θ by name; untouched.
        train_forward: the network as the training step runs it.
        forward: the network as it is.
        train_batch: the batch that θ is about to train on, this rank's micro-batches.
        metaval_batch: this rank's micro-batches of the meta-validation batch.
        step_size: ξ, the current learning rate.
        settings: how γ learns.
        mean: over ranks.

    Returns:
        The hypergradient, [n], 0 for entries that the method does not have.
    """
    result = hypergradient(
        train_forward,
        forward,
        parameters,
        harmony.gamma,
        train_batch,
        metaval_batch,
        step_size=step_size,
        temperature=harmony.temperature,
        average_ce=harmony.average_ce,
        alpha=settings.alpha,
        solver=SOLVERS[settings.solver],
        mean=mean,
    )
    step_weights(
        harmony.gamma,
        result.gradient,
        harmony.optimizer,
        initial=harmony.initial,
        exists=harmony.exists,
        constraint=settings.constraint,
    )
    harmony.average_ce = update_average(harmony.average_ce, result.ce, settings.average_momentum)
    return result.gradient * harmony.exists


def train_network(
    engine: Engine,
    harmony: Harmony,
    batch: Sequence[Example],
    *,
    prepare: Callable[[Tensor], Tensor],
    gradient_equilibrium: bool,
    annealing: bool,
    mean: Mean,
) -> Measures:
    """One step of θ on L_train = γ·ℓ (Eq. 5), accumulated over this rank's micro-batches.

    Args:
        engine: holds θ and its optimiser; all-reduces gradients at the last micro-batch.
        harmony: γ and T; T moves in place if it is annealed.
        batch: this rank's micro-batches.
        prepare: stored images → what the network sees.
        gradient_equilibrium: whether the network rescales its exits' gradients.
        annealing: whether T follows the last exit's confidence.
        mean: over ranks.
    """
    losses, correct, confidences = [], [], []
    for images, labels in batch:
        logits = engine(prepare(images), gradient_equilibrium=gradient_equilibrium)
        micro_losses = loss_vector(logits, labels, harmony.temperature)
        engine.backward(harmony.gamma @ micro_losses)
        engine.step()
        losses.append(micro_losses.detach())
        correct.append((logits.detach().argmax(dim=-1) == labels).sum(dim=1))
        if annealing:
            confidences.append(confidence(logits, harmony.temperature))
    if annealing:
        overall = mean([torch.stack(confidences).mean()])[0]
        harmony.temperature = anneal(harmony.temperature, overall)
    return Measures(torch.stack(losses).mean(dim=0), torch.stack(correct).sum(dim=0))
