"""A step of Algorithm 1: γ learns from a step of θ that looks ahead, θ from γ·ℓ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hdkd_dist.method.forward_mode import Recording, Tangents
from hdkd_dist.method.hypergradient import (
    SOLVERS,
    Example,
    Forward,
    Mean,
    Parameters,
    gradient_of,
    gradient_step,
    hypergradient,
    look_ahead,
)
from hdkd_dist.method.meta_objective import update_average
from hdkd_dist.method.objective import anneal, confidence, loss_vector
from hdkd_dist.method.weights import step_weights
from hdkd_dist.training.build import Batch, Engine, Learner


@dataclass(frozen=True)
class Measures:
    """What one step saw of its batch on this rank, on the device."""

    losses: Tensor  # ℓ, [n]
    correct: Tensor  # right predictions per exit, [K]


@dataclass(frozen=True)
class Pass:
    """A micro-batch's forward pass, with its graph."""

    logits: Tensor  # [K, B, C]
    losses: Tensor  # ℓ, [n]
    labels: Tensor  # [B]


def train_network(learner: Learner, batch: Batch) -> Measures:
    """One step of θ on L_train = γ·ℓ (Eq. 5), accumulated over this rank's micro-batches."""
    passes = []
    for example in batch:
        passed = forward_pass(learner, example)
        backward_pass(learner, passed)
        passes.append(Pass(passed.logits.detach(), passed.losses.detach(), passed.labels))
    return finish_step(learner, passes)


def forward_pass(learner: Learner, example: Example) -> Pass:
    """A micro-batch through the engine."""
    images, labels = example
    equilibrium = learner.gradient_equilibrium
    logits = learner.engine(learner.prepare(images), gradient_equilibrium=equilibrium)
    return Pass(logits, loss_vector(logits, labels, learner.harmony.temperature), labels)


@contextmanager
def outputs_before_engine(engine: Engine) -> Iterator[list[Tensor]]:
    """Within, what the network gives to the engine: a gradient from there runs past the engine.

    DeepSpeed takes a gradient that reaches the output of its engine for the backward pass of the
    step, and starts to reduce gradients.
    """
    outputs: list[Tensor] = []

    def fork(module: nn.Module, images: tuple, logits: Tensor) -> Tensor:
        outputs.append(logits)
        return logits.view_as(logits)

    handle = engine.module.register_forward_hook(fork)
    try:
        yield outputs
    finally:
        handle.remove()


def backward_pass(learner: Learner, passed: Pass) -> None:
    """The gradient of γ·ℓ; behind the last micro-batch θ moves."""
    learner.engine.backward(learner.harmony.gamma @ passed.losses)
    learner.engine.step()


def finish_step(learner: Learner, passes: Sequence[Pass]) -> Measures:
    """What the step saw; the temperature moves if it anneals."""
    harmony = learner.harmony
    logits = [passed.logits.detach() for passed in passes]
    if learner.annealing:
        seen = torch.stack([confidence(z, harmony.temperature) for z in logits]).mean()
        harmony.temperature = anneal(harmony.temperature, learner.mean([seen])[0])
    right = [
        (z.argmax(dim=-1) == passed.labels).sum(dim=1)
        for z, passed in zip(logits, passes, strict=True)
    ]
    losses = torch.stack([passed.losses.detach() for passed in passes]).mean(dim=0)
    return Measures(losses, torch.stack(right).sum(dim=0))


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


HarmonisedStep = Callable[[Learner, Batch, Batch, float], tuple[Measures, Tensor]]


def online_step(
    learner: Learner, train_batch: Batch, metaval_batch: Batch, rate: float
) -> tuple[Measures, Tensor]:
    """θ learns from γ; then γ from that real step, for the next one.

    Args:
        learner: γ and θ move.
        train_batch: trains θ; γ's derivative is taken on it.
        metaval_batch: judges θ'.
        rate: ξ, the current learning rate.

    Returns:
        What θ's step saw, and the hypergradient [n], 0 for entries that the method does not have.
    """
    before = {name: value.detach().clone() for name, value in learner.parameters.items()}
    temperature = learner.harmony.temperature
    with recording(learner) as record:
        measures = train_network(learner, train_batch)
    looked = Look(before, learner.parameters, rate * learner.gradient_share, temperature, record)
    return measures, learn_weights(learner, looked, train_batch, metaval_batch)


def lookahead_step(
    learner: Learner, train_batch: Batch, metaval_batch: Batch, rate: float
) -> tuple[Measures, Tensor]:
    """γ learns from one plain gradient step that is then forgotten (Eq. 8); then θ from the new γ.

    As :func:`online_step`. The training batch is forwarded again for θ's own step, so that its
    graph need not outlive the validation pass.
    """
    harmony, parameters = learner.harmony, learner.parameters
    with recording(learner) as record:
        ahead = look_ahead(
            learner.passes.look_ahead,
            parameters,
            harmony.gamma,
            train_batch,
            step_size=rate,
            temperature=harmony.temperature,
            mean=local_or_global(learner),
        )
    looked = Look(parameters, ahead, rate, harmony.temperature, record)
    gradient = learn_weights(learner, looked, train_batch, metaval_batch)
    return train_network(learner, train_batch), gradient


def keep_graph_step(
    learner: Learner, train_batch: Batch, metaval_batch: Batch, rate: float
) -> tuple[Measures, Tensor]:
    """As :func:`lookahead_step`, but one graph of the training batch serves both backward passes.

    It takes the memory of two graphs during the validation pass, and a single micro-batch.
    """
    harmony, parameters = learner.harmony, learner.parameters
    (example,) = train_batch
    with recording(learner) as record, outputs_before_engine(learner.engine) as outputs:
        passed = forward_pass(learner, example)
    losses = loss_vector(outputs[0], example[1], harmony.temperature)
    gradient = gradient_of(harmony.gamma @ losses, parameters, retain_graph=True)
    mean_gradient = local_or_global(learner)(gradient)
    ahead = gradient_step(parameters, dict(zip(parameters, mean_gradient, strict=True)), rate)
    looked = Look(parameters, ahead, rate, harmony.temperature, record)
    gradient = learn_weights(learner, looked, train_batch, metaval_batch)
    backward_pass(learner, passed)
    return finish_step(learner, [passed]), gradient


LOOK_AHEADS: dict[str, HarmonisedStep] = {
    "online": online_step,
    "lookahead": lookahead_step,
    "lookahead_keep_graph": keep_graph_step,
}
