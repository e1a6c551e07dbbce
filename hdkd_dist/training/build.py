"""A training run: its data, network, engine and γ, built from a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import deepspeed
import torch
from torch import Tensor, nn

from hdkd_dist.config.load import Config
from hdkd_dist.config.settings import DataSettings, GammaSettings, Settings
from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.order import Share, steps_per_epoch
from hdkd_dist.data.streams import Reading, SplitReader
from hdkd_dist.distributed import ranks
from hdkd_dist.method.functional import forward_of, in_bf16
from hdkd_dist.method.hypergradient import Example, Forward, Mean, Parameters
from hdkd_dist.method.weights import METHODS
from hdkd_dist.models import build, resolve
from hdkd_dist.training.engine import build_engine
from hdkd_dist.training.gamma import Harmony, start_harmony


@dataclass(frozen=True)
class Readers:
    """The ways in which training reads the data set."""

    train: SplitReader
    metaval: SplitReader  # augmented, for γ
    validation: SplitReader  # the same images as they are, for measuring
    test: SplitReader


@dataclass(frozen=True)
class Run:
    """Everything that one training run consists of, on one rank."""

    settings: Settings
    deepspeed: Mapping[str, Any]  # the rest of the configuration, with all batch sizes
    engine: deepspeed.DeepSpeedEngine  # θ and its optimiser
    harmony: Harmony  # γ, E_k, T
    readers: Readers
    share: Share  # this rank's part of a training batch
    metaval_share: Share  # this rank's part of a meta-validation batch
    normalize: Normalize
    image_size: int  # pixels
    steps_per_epoch: int
    device: torch.device

    @property
    def steps(self) -> int:
        """Of the whole schedule."""
        return self.settings.schedule.epochs * self.steps_per_epoch

    @property
    def gradient_equilibrium(self) -> bool:
        """Whether the exits' gradients are rescaled: as the method has it, unless it is set."""
        switch = self.settings.model.gradient_equilibrium
        return METHODS[self.settings.method].gradient_equilibrium if switch is None else switch


def build_run(config: Config, manifest: Manifest, device: torch.device) -> Run:
    """Open the streams and build the engine; collective.

    Raises:
        ValueError: if data, network, batch and ranks do not fit together.
    """
    settings = config.hdkd
    with ranks.agreement():
        share = replace(config.share, rank=ranks.rank())
        metaval_share = share_of_metaval(settings.data, share)
        steps = steps_per_epoch(manifest, share)
        spec = resolve(settings.model.preset, settings.model.overrides)
        readers = open_readers(
            manifest, settings.data, spec.input_size, share, metaval_share, device
        )
        torch.manual_seed(settings.run.seed)  # the initial parameters are a function of the seed
        network = build(settings.model.preset, len(manifest.classes), **settings.model.overrides)
        harmony = start_harmony(settings, network.num_exits, device)
    return Run(
        settings=settings,
        deepspeed=config.deepspeed,
        engine=build_engine(network.to(device), config, steps),
        harmony=harmony,
        readers=readers,
        share=share,
        metaval_share=metaval_share,
        normalize=Normalize.of(manifest.image["mean"], manifest.image["std"], device),
        image_size=spec.input_size,
        steps_per_epoch=steps,
        device=device,
    )


def open_readers(
    manifest: Manifest,
    settings: DataSettings,
    image_size: int,
    share: Share,
    metaval_share: Share,
    device: torch.device,
) -> Readers:
    """The data set's splits as training reads them, in micro-batches of this rank."""
    reading = Reading(device, settings.workers, settings.os_cache)
    open_split = partial(SplitReader, manifest, image_size=image_size, reading=reading)
    return Readers(
        train=open_split("train", batch=share.micro_batch, augment=True),
        metaval=open_split("metaval", batch=metaval_share.micro_batch, augment=True),
        validation=open_split("metaval", batch=share.micro_batch, augment=False),
        test=open_split("test", batch=share.micro_batch, augment=False),
    )


def share_of_metaval(data: DataSettings, train: Share) -> Share:
    """This rank's part of a meta-validation batch, in micro-batches no larger than training's."""
    batch = data.metaval_batch_size or train.batch
    if batch % train.world_size:
        raise ValueError(
            f"hdkd.data.metaval_batch_size {batch} cannot be divided among {train.world_size} ranks"
        )
    per_rank = batch // train.world_size
    accumulation = math.ceil(per_rank / train.micro_batch)
    while per_rank % accumulation:
        accumulation += 1
    return replace(train, batch=batch, accumulation=accumulation)


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
