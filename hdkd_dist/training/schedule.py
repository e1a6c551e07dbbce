"""The learning rate: linear scaling with the batch, warm-up, and drops at milestones."""

from __future__ import annotations

import warnings

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR, LRScheduler, MultiStepLR

from hdkd_dist.training.settings import ScheduleSettings


def learning_rate(settings: ScheduleSettings, batch: int) -> float:
    """base_lr × batch / base_batch (Goyal et al. 2017)."""
    return settings.base_lr * batch / settings.base_batch


def schedule(
    optimizer: Optimizer, settings: ScheduleSettings, batch: int, steps_per_epoch: int
) -> LRScheduler:
    """torch's schedulers, stepped once per optimiser step.

    The warm-up rises from base_lr, what a batch of base_batch trains with, to the scaled rate.
    """
    milestones = [round(epoch * steps_per_epoch) for epoch in settings.milestones]
    schedulers: list[LRScheduler] = [MultiStepLR(optimizer, milestones, settings.decay)]
    warmup_steps = round(settings.warmup_epochs * steps_per_epoch)
    if warmup_steps and batch > settings.base_batch:
        start = settings.base_batch / batch
        schedulers.append(LinearLR(optimizer, start_factor=start, total_iters=warmup_steps))
    return ChainedScheduler(schedulers)


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
