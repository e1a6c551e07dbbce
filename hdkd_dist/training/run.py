"""A training run: its data, network, engine and γ, built from a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import deepspeed
import torch

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.order import Share, steps_per_epoch
from hdkd_dist.data.streams import Reading, SplitReader
from hdkd_dist.method.weights import METHODS
from hdkd_dist.models import build, resolve
from hdkd_dist.training import ranks
from hdkd_dist.training.config import Config
from hdkd_dist.training.engine import build_engine
from hdkd_dist.training.harmony import Harmony, start_harmony
from hdkd_dist.training.settings import DataSettings, Settings


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
