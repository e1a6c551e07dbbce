"""The DeepSpeed engine around a network: data parallelism, optimiser, learning rate."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
)

from hdkd_dist.config.load import Config
from hdkd_dist.config.settings import ScheduleSettings
from hdkd_dist.distributed import ranks


def learning_rate(settings: ScheduleSettings, batch: int) -> float:
    """base_lr × batch / base_batch (Goyal et al. 2017)."""
    return settings.base_lr * batch / settings.base_batch


def schedule(
    optimizer: Optimizer, settings: ScheduleSettings, batch: int, steps_per_epoch: int
) -> LRScheduler:
    """Chain torch's schedulers, stepped once per optimiser step.

    Over the whole training the rate falls as ``settings.kind`` says: ``cosine`` (Loshchilov &
    Hutter 2017) and ``linear`` end at 0. The warm-up multiplies that. It rises from base_lr, what a
    batch of base_batch trains with, to the scaled rate, where that is larger (Goyal et al. 2017);
    or from ``warmup_start`` times the scaled rate, where that is given.

    Args:
        optimizer: at the scaled rate.
        settings: its epochs are the unit of milestones and warm-up.
        batch: images of a step, over all ranks.
        steps_per_epoch: steps of the optimiser.
    """
    schedulers = [FALLS[settings.kind](optimizer, settings, steps_per_epoch)]
    warmup_steps = round(settings.warmup_epochs * steps_per_epoch)
    start = settings.warmup_start
    if start is None:
        start = settings.base_batch / batch
    if warmup_steps and start < 1:
        start = max(start, SMALLEST_FACTOR)
        schedulers.append(LinearLR(optimizer, start_factor=start, total_iters=warmup_steps))
    return ChainedScheduler(schedulers)


def falling_by_steps(
    optimizer: Optimizer, settings: ScheduleSettings, steps_per_epoch: int
) -> LRScheduler:
    """Multiply the rate by ``decay`` at each milestone."""
    milestones = [round(epoch * steps_per_epoch) for epoch in settings.milestones]
    return MultiStepLR(optimizer, milestones, settings.decay)


def falling_by_cosine(
    optimizer: Optimizer, settings: ScheduleSettings, steps_per_epoch: int
) -> LRScheduler:
    """Lower the rate along half a cosine to 0 at the end."""
    return CosineAnnealingLR(optimizer, settings.epochs * steps_per_epoch)


def falling_linearly(
    optimizer: Optimizer, settings: ScheduleSettings, steps_per_epoch: int
) -> LRScheduler:
    """Lower the rate on a straight line to 0 at the end."""
    steps = settings.epochs * steps_per_epoch
    return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)


FALLS: dict[str, Callable[[Optimizer, ScheduleSettings, int], LRScheduler]] = {
    "steps": falling_by_steps,
    "cosine": falling_by_cosine,
    "linear": falling_linearly,
}
SMALLEST_FACTOR = 1e-6  # torch's warm-up cannot start at 0


def restarted(
    optimizer: Optimizer, settings: ScheduleSettings, batch: int, steps_per_epoch: int, steps: int
) -> LRScheduler:
    """The schedule after ``steps`` steps, for a run that goes on under another one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    scheduler = schedule(optimizer, settings, batch, steps_per_epoch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch misses the optimiser's steps
        for _ in range(steps):
            scheduler.step()
    return scheduler


@contextmanager
def joined_ranks() -> Iterator[torch.device]:
    """This rank's device, with the process group up; it is taken down whatever happens."""
    device = join_ranks()
    try:
        yield device
    finally:
        dist.destroy_process_group()


def join_ranks() -> torch.device:
    """Start the process group and return this rank's device."""
    deepspeed.utils.logger.setLevel(logging.WARNING)
    ranks.complete_environment()
    with without_shared_buffers():
        deepspeed.init_distributed(dist_backend=None, verbose=False)
    accelerator = get_accelerator()
    if accelerator.device_name() == "cpu":
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.local_world_size()))
        return torch.device("cpu")
    accelerator.set_device(ranks.local_rank())
    return torch.device(accelerator.device_name(ranks.local_rank()))


@contextmanager
def without_shared_buffers() -> Iterator[None]:
    """Within, DeepSpeed sets up no shared memory for the collectives of its CPU *inference*.

    Of that it would leave 69 MB per rank in ``/dev/shm`` behind every run.
    """
    local_size = os.environ.pop("LOCAL_SIZE", None)  # tells it that all ranks are on one node
    try:
        yield
    finally:
        if local_size is not None:
            os.environ["LOCAL_SIZE"] = local_size


def build_engine(
    network: nn.Module, config: Config, steps_per_epoch: int
) -> deepspeed.DeepSpeedEngine:
    """The network in a DeepSpeed engine, with the schedule of ``config``."""
    settings = copy.deepcopy(config.deepspeed)
    rate = learning_rate(config.hdkd.schedule, settings["train_batch_size"])
    params = settings["optimizer"].setdefault("params", {})
    params["lr"] = rate
    if settings["optimizer"]["type"].lower() in ("adam", "adamw") and not offloads(settings):
        params.setdefault("torch_adam", True)  # its own compiles for minutes at its first use
    settings.setdefault("steps_per_print", 10**9)
    settings.setdefault("gradient_clipping", 0.0)  # DeepSpeed's own default is to clip at norm 1
    settings.setdefault("timers", {"throughput": {"enabled": False}})  # it waits for the device
    zero = settings.get("zero_optimization", {})
    if zero.get("stage", 0) > 0:
        settings.setdefault("zero_allow_untested_optimizer", True)
        if not settings["gradient_clipping"] and "offload_optimizer" not in zero:
            # With the norm DeepSpeed would skip a step whose gradient is not finite, unseen.
            zero.setdefault("compute_grad_norm", False)
    try:
        engine, *_ = deepspeed.initialize(
            model=network,
            model_parameters=[p for p in network.parameters() if p.requires_grad],
            config=settings,
            lr_scheduler=lambda optimizer: schedule(
                optimizer, config.hdkd.schedule, settings["train_batch_size"], steps_per_epoch
            ),
            dist_init_required=False,
        )
    except (AssertionError, TypeError) as error:  # how it refuses some configurations
        raise ValueError(f"DeepSpeed refuses the configuration: {error}") from error
    if config.hdkd.model.compile:
        engine.compile()
    return engine


def offloads(settings: Mapping[str, Any]) -> bool:
    """Tell whether DeepSpeed keeps the optimiser in the host's memory, which needs its own Adam."""
    return "offload_optimizer" in settings.get("zero_optimization", {})


def averaged_buffers(network: nn.Module) -> dict[str, Tensor]:
    """The buffers averaged over ranks, as copies: each rank has seen other images.

    Used for evaluation and export; the network keeps its own.
    """
    buffers = dict(network.named_buffers())
    floating = [name for name, buffer in buffers.items() if buffer.is_floating_point()]
    copies = {name: buffer.clone() for name, buffer in buffers.items()}
    means = ranks.mean_over_ranks([copies[name] for name in floating])
    return {**copies, **dict(zip(floating, means, strict=True))}


def network_state(network: nn.Module) -> Mapping[str, Tensor]:
    """Parameters and averaged buffers by name: what evaluation and export need."""
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    return {**parameters, **averaged_buffers(network)}
