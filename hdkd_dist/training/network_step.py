"""A step of θ: the engine's forward and backward passes on L_train = γ·ℓ (Eq. 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hdkd_dist.method.hypergradient import Example
from hdkd_dist.method.objective import loss_vector
from hdkd_dist.method.temperature import anneal, confidence
from hdkd_dist.training.learner import Batch, Engine, Learner


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
