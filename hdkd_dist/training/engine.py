"""The DeepSpeed engine around a network: data parallelism, optimiser, learning rate."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError
from deepspeed.utils.groups import _clone_world_group
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _set_pg_timeout
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
from hdkd_dist.distributed.devices import named_by_local_rank
from hdkd_dist.distributed.watchdog import backend_patience
from hdkd_dist.training.weight_average import WeightAverage


def learning_rate(settings: ScheduleSettings, batch: int) -> float:
    """Return base_lr × batch / base_batch (Goyal et al. 2017)."""
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
    """Start a schedule at ``steps`` steps, for a run that goes on under another one."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    scheduler = schedule(optimizer, settings, batch, steps_per_epoch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch misses the optimiser's steps
        for _ in range(steps):
            scheduler.step()
    return scheduler


def build_engine(
    network: nn.Module, config: Config, steps_per_epoch: int
) -> deepspeed.DeepSpeedEngine:
    """Put the network, on its device, in a DeepSpeed engine, with the schedule of ``config``.

    Raises:
        ValueError: if DeepSpeed refuses the configuration.
    """
    device = next(network.parameters()).device
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    numbers = sum(parameter.numel() for parameter in trained)
    settings = with_fitting_bucket(engine_settings(config), numbers)
    try:
        with named_by_local_rank(device.index or 0):
            engine, *_ = deepspeed.initialize(
                model=network,
                model_parameters=trained,
                config=settings,
                lr_scheduler=lambda optimizer: schedule(
                    optimizer, config.hdkd.schedule, settings["train_batch_size"], steps_per_epoch
                ),
                dist_init_required=False,
            )
    except REFUSALS as error:
        raise ValueError(f"DeepSpeed refuses the configuration: {error}") from error
    # The gradients' own group has NCCL's ten minutes, whatever the first one was given.
    _set_pg_timeout(backend_patience(config.hdkd.run.hang_timeout_s), _clone_world_group())
    if device.type == "cuda" and not settings.get("zero_optimization", {}).get("stage", 0):
        channels_last_weights(network)
    if ranks.world_size() == 1:
        engine.allreduce_and_copy = keep_gradients
    if config.hdkd.model.compile:
        engine.compile()
    return engine


def keep_gradients(*_: Any) -> None:
    """Take the place of DeepSpeed's mean over ranks at ZeRO 0 where there is one rank.

    It would copy each gradient into a flat buffer and back: two operations per parameter.
    """


# How DeepSpeed refuses configurations.
REFUSALS = (
    AssertionError,
    AttributeError,
    DeepSpeedConfigError,
    KeyError,
    TypeError,
    ValueError,
)


def check_accepted(config: Config) -> None:
    """Let DeepSpeed read the configuration as the engine does, without a process group.

    Raises:
        ValueError: with what it refuses.
    """
    settings = engine_settings(config)
    # Without a group it reckons with one rank.
    settings["train_batch_size"] //= config.share.world_size
    try:
        DeepSpeedConfig(settings)
    except REFUSALS as error:
        raise ValueError(f"DeepSpeed refuses the configuration: {error}") from error


def engine_settings(config: Config) -> dict[str, Any]:
    """Complete DeepSpeed's part of a configuration by what this trainer relies on."""
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
        if settings.get("torch_autocast", {}).get("enabled"):
            # Else it rounds the gradients of convolutions to bf16 on their way between ranks.
            settings["torch_autocast"].setdefault("lower_precision_safe_modules", [])
    return settings


def with_fitting_bucket(settings: dict[str, Any], numbers: int) -> dict[str, Any]:
    """Let ZeRO's buffer for gradients on their way hold the network's, where nothing else is said.

    DeepSpeed's own default takes 2 GB on the device for whatever network. With the whole gradient
    in one bucket it is reduced after the backward pass. Smaller buckets and ``overlap_comm`` let
    stages 1 and 2 begin earlier, but in DeepSpeed 0.19 the host then waits for the device in every
    pass; stage 0 reduces after the backward pass whatever is set.

    Args:
        settings: DeepSpeed's.
        numbers: how many are trained.
    """
    zero = settings.get("zero_optimization", {})
    if not zero.get("stage", 0):
        return settings
    return {**settings, "zero_optimization": {"reduce_bucket_size": numbers, **zero}}


def channels_last_weights(network: nn.Module) -> None:
    """Store the weights of 2d convolutions with channels last, in place, like the feature maps.

    Otherwise cuDNN lays each weight, its gradient and its tangent out anew in every pass. Only
    after DeepSpeed has looked at them, and only at ZeRO 0: else they are parts of flat buffers.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def offloads(settings: Mapping[str, Any]) -> bool:
    """Tell whether DeepSpeed keeps the optimiser in the host's memory, which needs its own Adam."""
    return "offload_optimizer" in settings.get("zero_optimization", {})


def averaged_buffers(network: nn.Module, average: WeightAverage | None = None) -> dict[str, Tensor]:
    """Average the buffers over ranks, as copies: each rank has seen other images.

    Used for evaluation and export; the network keeps its own.

    Args:
        network: on each rank.
        average: of the weights, whose buffers are taken instead.
    """
    buffers = {**dict(network.named_buffers()), **(average.buffers if average else {})}
    floating = [name for name, buffer in buffers.items() if buffer.is_floating_point()]
    copies = {name: buffer.clone() for name, buffer in buffers.items()}
    means = ranks.mean_over_ranks([copies[name] for name in floating])
    return {**copies, **dict(zip(floating, means, strict=True))}


def evaluated_tensors(
    network: nn.Module, average: WeightAverage | None = None
) -> dict[str, Tensor]:
    """Collect the parameters and buffers that are evaluated, each tensor once; collective.

    Args:
        network: on each rank.
        average: of its weights, where that is evaluated instead of the last ones.
    """
    parameters = {name: value.detach() for name, value in network.named_parameters()}
    averaged = average.parameters if average else {}
    return {**parameters, **averaged, **averaged_buffers(network, average)}


def network_state(network: nn.Module, average: WeightAverage | None = None) -> dict[str, Tensor]:
    """Copy what is evaluated, as the network's ``state_dict`` names it; collective.

    A tensor with two names (tied weights) comes twice, a buffer that is not persistent not at all.
    """
    found = evaluated_tensors(network, average)
    own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    by_tensor = {id(tensor): found[name] for name, tensor in own.items()}
    return {
        name: by_tensor[id(tensor)].clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict(keep_vars=True).items()
    }
