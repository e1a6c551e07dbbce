"""What a step of training works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from hdkd_dist.method.hypergradient import Example, Forward, Mean, Parameters
from hdkd_dist.training import ranks
from hdkd_dist.training.functional import forward_of, in_bf16
from hdkd_dist.training.harmony import Harmony
from hdkd_dist.training.settings import GammaSettings, Settings

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
class Passes:
    """The network as a function of its parameters, as each pass of the γ step runs it."""

    look_ahead: Forward  # for ∇L_train; as the training step runs it
    validation: Forward  # for ∇L_val(θ'), which must be the true gradient
    forward_mode: Forward  # for ⟨∇ℓ_i(θ), v⟩; as the training step runs it


@dataclass(frozen=True)
class Learner:
    """What learns, and how; the same for all steps of a run."""

    engine: Engine  # moves θ
    harmony: Harmony  # γ, E_k and T, which move in place
    parameters: Parameters  # θ, by name
    passes: Passes
    prepare: Callable[[Tensor], Tensor]  # stored images → what the network sees
    gradient_equilibrium: bool  # whether training rescales the exits' gradients
    gradient_share: float  # c: the optimiser's step is −cξ∇L_train plus what γ does not change
    annealing: bool  # whether T follows the last exit's confidence
    settings: GammaSettings
    mean: Mean  # over ranks
    replays: bool  # whether the γ step may use what the training pass has computed


def build_learner(
    engine: Engine,
    harmony: Harmony,
    prepare: Callable[[Tensor], Tensor],
    settings: Settings,
    deepspeed: Mapping[str, Any],
    *,
    gradient_equilibrium: bool = False,
    mean: Mean = ranks.mean_over_ranks,
) -> Learner:
    """The learner of a configuration.

    Args:
        engine: around the network.
        harmony: γ, E_k and T.
        prepare: stored images → what the network sees.
        settings: the configuration's "hdkd".
        deepspeed: the rest of it, with all batch sizes.
        gradient_equilibrium: whether training rescales the exits' gradients.
        mean: averages tensors over ranks.
    """
    network = engine.module
    as_trained = forward_of(network, prepare, gradient_equilibrium=gradient_equilibrium)
    passes = {
        "look_ahead": as_trained,
        "validation": forward_of(network, prepare),
        "forward_mode": as_trained,
    }
    if autocasts(deepspeed):
        passes |= {name: in_bf16(passes[name]) for name in settings.gamma.autocast}
    return Learner(
        engine=engine,
        harmony=harmony,
        parameters=dict(network.named_parameters()),
        passes=Passes(**passes),
        prepare=prepare,
        gradient_equilibrium=gradient_equilibrium,
        gradient_share=gradient_share(deepspeed["optimizer"]),
        annealing=settings.loss.temperature == "anneal",
        settings=settings.gamma,
        mean=mean,
        replays=replays(settings, deepspeed),
    )


def autocasts(deepspeed: Mapping[str, Any]) -> bool:
    """Whether the training step runs in bf16 (``torch_autocast``)."""
    return deepspeed.get("torch_autocast", {}).get("enabled", False)


def gradient_share(optimizer: Mapping[str, Any]) -> float:
    """c in θ' = θ − cξ∇L_train + …, from DeepSpeed's "optimizer" section.

    The step of SGD with momentum μ adds to −ξ∇L_train only what is constant in γ: the past
    momentum and weight decay. Nesterov's takes the current gradient twice, 1 + μ in all.
    """
    params = optimizer.get("params", {})
    return 1 + params.get("momentum", 0.0) if params.get("nesterov") else 1.0


def replays(settings: Settings, deepspeed: Mapping[str, Any]) -> bool:
    """Whether the forward-mode pass may take the convolutions' outputs from the training pass.

    It is faster by a forward pass's convolutions. With accumulation it would cost much memory, a
    compiled pass has none to give, and both passes must have the same precision.
    """
    gamma = settings.gamma
    whole = gamma.train_part == 1 and deepspeed["gradient_accumulation_steps"] == 1
    recorded = "look_ahead" if gamma.lookahead == "lookahead" else "training"
    half = {"training", *gamma.autocast} if autocasts(deepspeed) else set()
    alike = (recorded in half) == ("forward_mode" in half)
    compiled = settings.model.compile and recorded == "training"
    return gamma.solver == "jvp" and whole and alike and not compiled
