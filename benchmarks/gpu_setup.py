"""What the parts of gpu.py share: a device, HDKD on it, batches, clocks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from operations import RATE, STEPS, Autocasting
from torch import Tensor

from hdkd_dist.config.settings import Settings
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.method.algorithm import Algorithm
from hdkd_dist.method.graphs import PASSES_BEFORE
from hdkd_dist.method.hypergradient import alone
from hdkd_dist.models import build, resolve
from hdkd_dist.training.engine import channels_last_weights
from hdkd_dist.training.gamma import build_algorithm, configured_weights

Batch = list[tuple[Tensor, Tensor]]
CPU = torch.device("cpu")
UNTIMED = PASSES_BEFORE + 2  # steps, in the last but one of which all is captured


def device_of(rehearse: bool) -> torch.device:
    """Choose where a part computes."""
    return CPU if rehearse else torch.device("cuda", torch.cuda.current_device())


def say(**row: Any) -> None:
    """Print a result."""
    print(json.dumps(row), flush=True)


def wait(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(run: Callable[[], object], device: torch.device, times: int) -> float:
    """Measure a run's time, the device's part included; the mean over ``times``."""
    wait(device)
    start = time.perf_counter()
    for _ in range(times):
        run()
    wait(device)
    return 1e3 * (time.perf_counter() - start) / times


def error(found: Tensor, expected: Tensor) -> float:
    """Give ‖found − expected‖/‖expected‖, in float64."""
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm())


def algorithm_on(
    device: torch.device, preset: str, lookahead: str = "online", graphs: bool = True
) -> Algorithm:
    """Set HDKD up as ds_configs/imagenet.json trains it, on one device and without DeepSpeed."""
    settings = Settings.model_validate(
        {
            "method": "hdkd",
            "model": {"preset": preset},
            "schedule": {"epochs": 1, "base_lr": RATE, "base_batch": 1},
            "gamma": {"lookahead": lookahead},
            "run": {"cuda_graphs": graphs},
        }
    )
    torch.manual_seed(0)
    network = build(preset).to(device).train()
    if device.type == "cuda":
        channels_last_weights(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    deepspeed = {
        "optimizer": {"params": {"momentum": 0.9}},
        "gradient_accumulation_steps": 1,
        "torch_autocast": {"enabled": True},
    }
    weights = configured_weights(settings, network.num_exits, STEPS, device)
    prepare = Normalize.of([0.5] * 3, [0.2] * 3, device)
    engine = Autocasting(network, optimizer)
    return build_algorithm(engine, weights, prepare, settings, deepspeed, mean=alone)


def random_batch(device: torch.device, preset: str, size: int) -> Batch:
    """Draw one micro-batch as the loader gives it."""
    side = resolve(preset, {}).input_size
    images = torch.randint(256, (size, side, side, 3), dtype=torch.uint8, device=device)
    return [(images.permute(0, 3, 1, 2), torch.randint(10, (size,), device=device))]
