"""What a step of training works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from hdkd_dist.method.hypergradient import Example, Forward, Mean, Parameters
from hdkd_dist.training.harmony import Harmony
from hdkd_dist.training.settings import GammaSettings

Batch = Sequence[Example]  # this rank's micro-batches


class Engine(Protocol):
    """The part of ``deepspeed.DeepSpeedEngine`` that a step uses."""

    module: nn.Module  # the network

    def __call__(self, images: Tensor, *, gradient_equilibrium: bool) -> Tensor:
        """Images → logits [K, B, C]."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of the mean of the micro-batches' losses."""

    def step(self) -> None:
        """At the last micro-batch: all-reduce the gradient and move θ."""


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
    replays: bool  # whether the γ step may use what the training pass has computed
