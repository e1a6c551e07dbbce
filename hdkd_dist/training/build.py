"""A training run: its data, network, engine and γ, built from a configuration."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from deepspeed.runtime.engine import DeepSpeedEngine
from torch import nn

from hdkd_dist.config.data_fit import check_metaval
from hdkd_dist.config.load import Config
from hdkd_dist.config.settings import DataSettings, Settings
from hdkd_dist.data.augment import Augmentation
from hdkd_dist.data.manifest import METAVAL, Manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.order import BatchShare, steps_per_epoch
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReadOptions, SplitReader
from hdkd_dist.distributed import ranks
from hdkd_dist.method.algorithm import Algorithm
from hdkd_dist.method.state import LossWeights
from hdkd_dist.models import MultiExit, build_from, spec_of
from hdkd_dist.runs.network import start_from
from hdkd_dist.training.engine import build_engine
from hdkd_dist.training.gamma import (
    build_algorithm,
    check_terms,
    configured_weights,
    equilibrates,
)
from hdkd_dist.training.weight_average import WeightAverage


@dataclass(frozen=True)
class Readers:
    """Readers of the data set, one for each way in which training reads it.

    Without a meta-validation split there is nothing to read for γ, and nothing to validate on.
    """

    train: SplitReader
    metaval: SplitReader | None  # augmented, for γ
    validation: SplitReader | None  # the same images as they are, for measuring
    test: SplitReader

    def close(self) -> None:
        """End what reads for them."""
        for reader in (self.train, self.metaval, self.validation, self.test):
            if reader is not None:
                reader.close()


@dataclass(frozen=True)
class Run:
    """All parts of one training run, on one rank."""

    settings: Settings
    deepspeed: Mapping[str, Any]  # the rest of the configuration, with all batch sizes
    engine: DeepSpeedEngine  # θ and its optimiser
    weights: LossWeights  # γ, E_k, T
    average: WeightAverage | None  # of θ, where it is evaluated instead of the last θ
    algorithm: Algorithm  # moves both
    readers: Readers
    share: BatchShare  # this rank's part of a training batch
    metaval_share: BatchShare  # this rank's part of a meta-validation batch
    normalize: Normalize
    image_size: int  # pixels
    steps_per_epoch: int
    device: torch.device

    @property
    def steps(self) -> int:
        """Count the steps of the whole schedule."""
        return self.settings.schedule.epochs * self.steps_per_epoch


def build_run(config: Config, manifest: Manifest, device: torch.device, fresh: bool = True) -> Run:
    """Open the streams and build the engine; collective.

    Args:
        config: what to train.
        manifest: of its data.
        device: of this rank.
        fresh: whether training begins; a run that goes on has its weights in its checkpoint.

    Raises:
        ValueError: if data, network, batch and ranks do not fit together.
    """
    settings = config.hdkd
    with ranks.agreement():
        share = replace(config.share, rank=ranks.rank())
        metaval_share = share_of_metaval(settings.data, share)
        steps = steps_per_epoch(manifest, share)
        check_metaval(settings, manifest)
        spec = spec_of(settings.model.model_dump())
        readers = open_readers(
            manifest, settings.data, spec.input_size, share, metaval_share, device
        )
        torch.manual_seed(settings.run.seed)  # the initial parameters are a function of the seed
        network = build_from(spec, len(manifest.classes))
        check_equilibrium(network, settings)
        if fresh and settings.model.init_from is not None:
            start_from(network, Path(settings.model.init_from))
        exits = cast(MultiExit, network).num_exits
        check_terms(settings.loss, exits, len(manifest.classes))
        weights = configured_weights(settings, exits, settings.schedule.epochs * steps, device)
    engine = build_engine(network.to(device), config, steps)
    decay = settings.model.ema_decay
    normalize = Normalize.of(manifest.image["mean"], manifest.image["std"], device)
    return Run(
        settings=settings,
        deepspeed=config.deepspeed,
        engine=engine,
        weights=weights,
        average=None if decay is None else WeightAverage(engine.module, decay),
        algorithm=build_algorithm(engine, weights, normalize, settings, config.deepspeed),
        readers=readers,
        share=share,
        metaval_share=metaval_share,
        normalize=normalize,
        image_size=spec.input_size,
        steps_per_epoch=steps,
        device=device,
    )


def check_equilibrium(network: nn.Module, settings: Settings) -> None:
    """Refuse gradient equilibrium for a network that does not offer it.

    Raises:
        ValueError: saying how to mend it.
    """
    offered = inspect.signature(network.forward).parameters
    if equilibrates(settings) and "gradient_equilibrium" not in offered:
        raise ValueError(
            f"{settings.method} rescales the exits' gradients, but the forward of "
            f"{type(network).__name__} takes no gradient_equilibrium: build it as a "
            "MultiExitNetwork, or set hdkd.model.gradient_equilibrium to false"
        )


def open_readers(
    manifest: Manifest,
    settings: DataSettings,
    image_size: int,
    share: BatchShare,
    metaval_share: BatchShare,
    device: torch.device,
) -> Readers:
    """Open the data set's splits as training reads them, in micro-batches of this rank."""
    reading = ReadOptions(device, settings.workers, settings.os_cache, settings.reader)
    opened = partial(open_split, manifest, image_size=image_size, reading=reading)
    augmentation = Augmentation.of(
        manifest,
        randaugment=settings.randaugment,
        randaugment_operations=settings.randaugment_operations,
        colour_jitter=settings.colour_jitter,
    )
    metaval = validation = None
    if METAVAL in manifest.splits:
        metaval = opened(METAVAL, batch=metaval_share.micro_batch, augmentation=augmentation)
        validation = opened(METAVAL, batch=share.micro_batch)
    return Readers(
        train=opened("train", batch=share.micro_batch, augmentation=augmentation),
        metaval=metaval,
        validation=validation,
        test=opened("test", batch=share.micro_batch),
    )


def share_of_metaval(data: DataSettings, train: BatchShare) -> BatchShare:
    """Divide a meta-validation batch among ranks, in micro-batches no larger than training's."""
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
