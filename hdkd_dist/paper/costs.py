"""Count what runs cost: forward passes × multiply-adds, and how fast a device does them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from hdkd_dist.method.weights import METHODS
from hdkd_dist.models import build, exit_costs, resolve
from hdkd_dist.paper.records import SPEED, Record
from hdkd_dist.paper.scales import DATA_SETS, VALIDATION_PER_CLASS
from hdkd_dist.paper.trials import Trial, settings_of

# In forward passes without accumulation; docs/gamma-step.md counts them.
PLAIN_STEP = VALIDATION_GRADIENT = 3.0
WEIGHTS_STEP = {"online": 8.0, "lookahead": 11.0}

# An A100's peaks in 10¹² multiply-adds per second: 312 Tflop/s in bf16, and half of that in TF32,
# to which its convolutions of float32 round. The part of it is inferred: msdnet-imagenet-4 is bound
# by memory, and an H200, which has 4.8 TB/s, trains it at 20.2 (docs/results/gpu.json); an A100 of
# 80 GB has 2.04 TB/s. benchmarks/communication_model.py, which also counts launches and traffic,
# takes the same.
PEAK_TMAC = {"bf16": 156.0, "tf32": 78.0}
EFFICIENCY = 0.055
# One core of an AMD EPYC (Zen 4) virtual machine with a run on each of its two: 770 images/s of
# plain training of msdnet-cifar-tiny. Until runs of one's own are finished.
CORE_TMAC = 0.019


@dataclass(frozen=True)
class Work:
    """Say what a run computes."""

    tmac: float  # 10¹² multiply-adds, evaluations included
    mmac_per_image: float  # of a training step


def work_of(trial: Trial) -> Work:
    """Count a run's multiply-adds, without computing anything."""
    settings = settings_of(trial)
    whole = DATA_SETS[trial.bench.dataset]
    train, test = trial.bench.train_images(trial.size), whole.test
    validation = whole.classes * VALIDATION_PER_CLASS
    epochs = settings.schedule.epochs
    model = settings.model
    mmac = forward_mmac(model.preset, _hashable(model.overrides))
    step = step_cost(trial)
    passes = epochs * (train * step + validation) + (validation + test if trial.test else 0)
    return Work(passes * mmac / 1e6, step * mmac)


def gpu_precision(trial: Trial) -> str:
    """Name the peak that a run's convolutions are measured by: a key of ``PEAK_TMAC``."""
    autocast = trial.bench.read_config().get("torch_autocast", {}).get("enabled", False)
    return "bf16" if autocast else "tf32"


def step_cost(trial: Trial) -> float:
    """Count the forward passes of a training step, the steps of γ spread over all."""
    settings = settings_of(trial)
    gamma = settings.gamma
    if not METHODS[settings.method].learns or trial.takes == "final_gamma":
        return PLAIN_STEP
    train = trial.bench.read_config()["train_batch_size"]
    smaller = (settings.data.metaval_batch_size or train) / train
    extra = WEIGHTS_STEP[gamma.lookahead] - PLAIN_STEP - (1 - smaller) * VALIDATION_GRADIENT
    return PLAIN_STEP + extra / gamma.every


@cache
def forward_mmac(preset: str, overrides: tuple[tuple[str, Any], ...]) -> float:
    """Count the multiply-adds of one image through the whole network, in millions."""
    with torch.device("meta"):
        network = build(preset, **dict(overrides))
    return exit_costs(network, resolve(preset, dict(overrides)).input_size).mmac[-1]


def _hashable(overrides: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    pairs = ((key, tuple(v) if isinstance(v, list) else v) for key, v in overrides.items())
    return tuple(sorted(pairs))


def tmac_per_second(records: Mapping[str, Record], trials: Mapping[str, Trial]) -> float | None:
    """Return how fast finished runs were: the median over them; None if there are none."""
    rates = [
        record.values[SPEED] * work_of(trials[name]).mmac_per_image / 1e6
        for name, record in records.items()
        if name in trials
    ]
    return statistics.median(rates) if rates else None
