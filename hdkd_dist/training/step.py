"""A step of Algorithm 1: γ learns from a look-ahead, θ from γ·ℓ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hdkd_dist.method.hypergradient import (
    SOLVERS,
    Example,
    Forward,
    Mean,
    Parameters,
    hypergradient,
    look_ahead,
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


@dataclass(frozen=True)
class Learner:
    """What learns, and how; the same for all steps of a run."""

    engine: Engine  # moves θ
    harmony: Harmony  # γ, E_k and T, which move in place
    parameters: Parameters  # θ, by name
    forward: Forward  # the network as it is
    train_forward: Forward  # the network as the training step runs it
    prepare: Callable[[Tensor], Tensor]  # stored images → what the network sees
    gradient_equilibrium: bool  # whether training rescales the exits' gradients
    gradient_share: float  # c: the optimiser's step is −cξ∇L_train plus what γ does not change
    annealing: bool  # whether T follows the last exit's confidence
    settings: GammaSettings
    mean: Mean  # over ranks


Batch = Sequence[Example]  # this rank's micro-batches
HarmonisedStep = Callable[[Learner, Batch, Batch, float], tuple[Measures, Tensor]]


def lookahead_step(
    learner: Learner, train_batch: Batch, metaval_batch: Batch, rate: float
) -> tuple[Measures, Tensor]:
    """γ learns from one plain gradient step that is then forgotten (Eq. 8); then θ from the new γ.

    Args:
        learner: γ and θ move.
        train_batch: trains θ; the look-ahead step uses it too.
        metaval_batch: judges θ'.
        rate: ξ, the current learning rate.

    Returns:
        What θ's step saw, and the hypergradient [n], 0 for entries that the method does not have.
    """
    temperature = learner.harmony.temperature
    ahead = look_ahead(
        learner.train_forward,
        learner.parameters,
        learner.harmony.gamma,
        train_batch,
        step_size=rate,
        temperature=temperature,
        mean=learner.mean,
    )
    gradient = learn_weights(
        learner, learner.parameters, ahead, train_batch, metaval_batch, rate, temperature
    )
    return train_network(learner, train_batch), gradient


def online_step(
    learner: Learner, train_batch: Batch, metaval_batch: Batch, rate: float
) -> tuple[Measures, Tensor]:
    """θ learns from γ; then γ from that real step, for the next one. As :func:`lookahead_step`."""
    before = {name: value.detach().clone() for name, value in learner.parameters.items()}
    temperature = learner.harmony.temperature
    measures = train_network(learner, train_batch)
    step_size = rate * learner.gradient_share
    gradient = learn_weights(
        learner, before, learner.parameters, train_batch, metaval_batch, step_size, temperature
    )
    return measures, gradient


LOOK_AHEADS: dict[str, HarmonisedStep] = {"lookahead": lookahead_step, "online": online_step}


def learn_weights(
    learner: Learner,
    theta: Parameters,
    ahead: Parameters,
    train_batch: Batch,
    metaval_batch: Batch,
    step_size: float,
    temperature: Tensor,
) -> Tensor:
    """One step of γ, and then of E_k, from a step θ → θ' on ``train_batch`` (Eqs. 8 to 10).

    Returns:
        The hypergradient, [n], 0 for entries that the method does not have.
    """
    harmony, settings = learner.harmony, learner.settings
    result = hypergradient(
        learner.train_forward,
        learner.forward,
        theta,
        ahead,
        train_batch,
        metaval_batch,
        step_size=step_size,
        temperature=temperature,
        average_ce=harmony.average_ce,
        alpha=settings.alpha,
        solver=SOLVERS[settings.solver],
        mean=learner.mean,
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


def train_network(learner: Learner, batch: Batch) -> Measures:
    """One step of θ on L_train = γ·ℓ (Eq. 5), accumulated over this rank's micro-batches."""
    engine, harmony = learner.engine, learner.harmony
    losses, correct, confidences = [], [], []
    for images, labels in batch:
        logits = engine(learner.prepare(images), gradient_equilibrium=learner.gradient_equilibrium)
        micro_losses = loss_vector(logits, labels, harmony.temperature)
        engine.backward(harmony.gamma @ micro_losses)
        engine.step()
        losses.append(micro_losses.detach())
        correct.append((logits.detach().argmax(dim=-1) == labels).sum(dim=1))
        if learner.annealing:
            confidences.append(confidence(logits, harmony.temperature))
    if learner.annealing:
        overall = learner.mean([torch.stack(confidences).mean()])[0]
        harmony.temperature = anneal(harmony.temperature, overall)
    return Measures(torch.stack(losses).mean(dim=0), torch.stack(correct).sum(dim=0))


def gradient_share(optimizer: Mapping[str, Any]) -> float:
    """c in θ' = θ − cξ∇L_train + …, from DeepSpeed's "optimizer" section.

    The step of SGD with momentum μ adds to −ξ∇L_train only what is constant in γ: the past
    momentum and weight decay. Nesterov's takes the current gradient twice, 1 + μ in all.
    """
    params = optimizer.get("params", {})
    return 1 + params.get("momentum", 0.0) if params.get("nesterov") else 1.0
