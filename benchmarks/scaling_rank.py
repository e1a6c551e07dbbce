"""A rank of benchmarks/scaling.py: takes the trainer's steps, through DeepSpeed, and times them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from collectives import Calls, recording_collectives, repeat

from hdkd_dist.config.load import Config, load_config
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.distributed import ranks
from hdkd_dist.distributed.ranks import NOTHING, DelayedMax
from hdkd_dist.method.algorithm import Algorithm, Batch
from hdkd_dist.models import build, resolve
from hdkd_dist.training.engine import build_engine
from hdkd_dist.training.gamma import build_algorithm, configured_weights, replicate
from hdkd_dist.training.measure import Meter
from hdkd_dist.training.process_group import joined_ranks

CONFIG = Path(__file__).parents[1] / "ds_configs/cifar100_small.json"
CLASSES, CPU = 100, torch.device("cpu")
STEPS = 1000  # of the training whose steps are timed
MODES: dict[str, dict[str, Any]] = {
    "plain": {"hdkd.method": "naive_dkd"},  # all losses, γ fixed
    "default": {"hdkd.method": "hdkd"},  # as it is shipped
    "every_1": {"hdkd.method": "hdkd", "hdkd.gamma.every": 1},
}


def configuration(preset: str, micro_batch: int, mode: Mapping[str, Any]) -> Config:
    """What a user would train with, except that θ hardly moves: the images are noise."""
    world_size = ranks.world_size()
    overrides = {
        **mode,
        "hdkd.model.preset": preset,
        "train_batch_size": micro_batch * world_size,
        "hdkd.schedule.base_lr": 1e-3,
    }
    return load_config(CONFIG, overrides, world_size)


@dataclass
class Trainee:
    """A way to train, and how far it has come."""

    algorithm: Algorithm
    rates: Callable[[], list[float]]  # of the optimiser, as DeepSpeed gives them
    every: int  # steps between those of γ
    meter: Meter
    log_every: int
    steps: int = 0

    def step(self, train: Batch, metaval: Batch, wishes: DelayedMax) -> None:
        """One step as the trainer takes it, with all that the ranks tell each other."""
        algorithm, weights = self.algorithm, self.algorithm.weights
        if weights.learns and self.steps % self.every == 0:
            rate = self.rates()[0]
            seen, gradient = algorithm.step(train, metaval, rate)
            self.meter.add_gamma_step(self.steps + 1, gradient, replicate(weights))
        else:
            seen = algorithm.train_step(train)
        self.steps += 1
        self.meter.add(self.steps, seen, weights.gamma, len(train[0][1]))
        if self.steps % self.log_every == 0:
            self.meter.read()
        wishes.exchange(NOTHING)


class ScalingRank:
    """One engine, which all modes train in turn; collective."""

    def __init__(self, preset: str, micro_batch: int, modes: Mapping[str, Any] = MODES):
        configs = {name: configuration(preset, micro_batch, mode) for name, mode in modes.items()}
        torch.manual_seed(0)
        network = build(preset, CLASSES).train()
        engine = build_engine(network, configs["plain"], steps_per_epoch=10**6)
        normalize = Normalize.of([0.5] * 3, [0.25] * 3, CPU)
        self.size = micro_batch
        self.side = resolve(preset, {}).input_size
        self.wishes = DelayedMax()
        self.trainees = {
            mode: Trainee(
                build_algorithm(
                    engine,
                    configured_weights(config.hdkd, network.num_exits, STEPS, CPU),
                    normalize,
                    config.hdkd,
                    config.deepspeed,
                ),
                engine.get_lr,
                config.hdkd.gamma.every,
                Meter(network.num_exits, CPU),
                config.hdkd.run.log_every,
            )
            for mode, config in configs.items()
        }

    def batch(self, size: int, kind: int) -> Batch:
        """One micro-batch of noise, another one on every rank."""
        generator = torch.Generator().manual_seed(2 * ranks.rank() + kind)
        images = torch.randint(256, (size, 3, self.side, self.side), generator=generator)
        return [(images.byte(), torch.randint(CLASSES, (size,), generator=generator))]

    def take(self, mode: str, steps: int, size: int) -> None:
        """Some steps."""
        train, metaval = self.batch(size, 0), self.batch(size, 1)
        for _ in range(steps):
            self.trainees[mode].step(train, metaval, self.wishes)

    def count(self, mode: str) -> Calls:
        """The collectives from one record to the next; few images do, for they are not sent."""
        with recording_collectives() as record:
            self.take(mode, self.trainees[mode].log_every, size=4)
        return record.calls

    def timed(self, mode: str, steps: int) -> tuple[float, float]:
        """Seconds per step, and of them those inside collectives; all ranks start together."""
        dist.barrier()
        with recording_collectives() as record:
            start = time.perf_counter()
            self.take(mode, steps, self.size)
            seconds = time.perf_counter() - start
        return seconds / steps, record.seconds / steps

    def bare(self, calls: Calls, steps: int) -> float:
        """Seconds per step for those of the calls of so many steps that a step waits for."""
        dist.barrier()
        start = time.perf_counter()
        repeat({call: times for call, times in calls.items() if call.waits})
        return (time.perf_counter() - start) / steps

    def wire(self) -> int:
        """Bytes that the loopback interface of this network namespace has sent so far."""
        lines = Path("/proc/net/dev").read_text().splitlines()
        (fields,) = (line.split(":")[1].split() for line in lines if line.strip().startswith("lo:"))
        return int(fields[8])


def serve(
    pipe: Connection, core: int, environment: Mapping[str, str], preset: str, micro_batch: int
) -> None:
    """A process: builds a rank on one core, and answers requests (method, arguments)."""
    os.dup2(2, 1)  # what is said on the way does not belong into the report
    os.sched_setaffinity(0, {core})
    os.environ.update(environment)
    torch.set_num_threads(1)
    with joined_ranks():
        rank = ScalingRank(preset, micro_batch)
        pipe.send("ready")
        while (request := pipe.recv()) is not None:
            method, *arguments = request
            pipe.send(getattr(rank, method)(*arguments))
    os._exit(0)  # as training does: see cli.leaving_at_once
