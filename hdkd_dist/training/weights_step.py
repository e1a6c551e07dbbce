"""A step of γ, judged by a step of θ (Eqs. 8 to 10)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from hdkd_dist.method.forward_mode import Recording, Tangents
from hdkd_dist.method.hypergradient import SOLVERS, Forward, Mean, Parameters, hypergradient
from hdkd_dist.method.meta_objective import update_average
from hdkd_dist.method.weights import step_weights
from hdkd_dist.training.learner import Batch, Learner


@dataclass(frozen=True)
class Look:
    """A step of θ that γ is judged by."""

    theta: Parameters  # θ, by name
    ahead: Parameters  # θ'
    step_size: float  # ξ in ∂θ'/∂γ_i = −ξ∇ℓ_i(θ)
    temperature: Tensor  # T of ℓ
    record: Recording | None  # of the training batch's forward pass at θ


def recording(learner: Learner) -> AbstractContextManager[Recording | None]:
    """Keep of the training pass what the forward-mode pass can use."""
    return Recording() if learner.replays else nullcontext()


def learn_weights(learner: Learner, look: Look, train_batch: Batch, metaval_batch: Batch) -> Tensor:
    """One step of γ, and then of E_k, judged by a step of θ on ``train_batch`` (Eqs. 8 to 10).

    Returns:
        The hypergradient, [n], 0 for entries that the method does not have.
    """
    harmony, settings = learner.harmony, learner.settings
    result = hypergradient(
        replaying(learner.passes.forward_mode, look.record),
        learner.passes.validation,
        look.theta,
        look.ahead,
        part_of(train_batch, settings.train_part),
        metaval_batch,
        step_size=look.step_size,
        temperature=look.temperature,
        average_ce=harmony.average_ce,
        alpha=settings.alpha,
        solver=SOLVERS[settings.solver],
        mean=local_or_global(learner),
    )
    gradient, ce = result.gradient, result.ce
    if settings.scope == "local":
        gradient, ce = learner.mean([gradient, ce])
    step_weights(
        harmony.gamma,
        gradient,
        harmony.optimizer,
        initial=harmony.initial,
        exists=harmony.exists,
        constraint=settings.constraint,
    )
    harmony.average_ce = update_average(harmony.average_ce, ce, settings.average_momentum)
    return gradient * harmony.exists


def local_or_global(learner: Learner) -> Mean:
    """Over ranks; for scope "local" over this rank alone: only γ's n entries are averaged then."""
    return learner.mean if learner.settings.scope == "global" else list


def replaying(forward: Forward, record: Recording | None) -> Forward:
    """``forward``, whose convolutions give what was recorded, when it is differentiated forward."""
    if record is None:
        return forward

    def replayed(parameters: Parameters, images: Tensor) -> Tensor:
        with Tangents(record.outputs):
            return forward(parameters, images)

    return replayed


def part_of(batch: Batch, part: float) -> Batch:
    """The first images of each micro-batch; the order being random, a random part."""
    if part == 1:
        return batch
    return [
        (images[: (size := max(1, round(part * len(labels))))], labels[:size])
        for images, labels in batch
    ]
