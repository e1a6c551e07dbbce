"""What a step of γ costs: time, peak memory and error of each way to compute it.

    python benchmarks/hypergradient.py [--preset msdnet-cifar-5] [--batch 128] [--rounds 5] [--json]

Every contestant runs in a process of its own, for a true peak memory; the processes take turns,
one period of γ each, so that a slow minute of the machine hits all. A step is what training does:
θ's update, and γ's where there is one. bilevel_libraries.py says how to install the libraries that
are compared; without them they are left out.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bilevel_libraries import LIBRARIES, user_lines
from plain_formulation import plain_formulation

from hdkd_dist import cli
from hdkd_dist.config.settings import GammaSettings, Settings
from hdkd_dist.method import hypergradient
from hdkd_dist.method.algorithm import Algorithm
from hdkd_dist.method.engines import PlainEngine
from hdkd_dist.method.functional import unchanged
from hdkd_dist.method.hypergradient import alone
from hdkd_dist.models import build, resolve
from hdkd_dist.training.gamma import build_algorithm, configured_weights
from hdkd_dist.training.health import peak_memory_mb

RATE, MOMENTUM, CLASSES = 0.1, 0.9, 100
STEPS = 1000  # of the training whose step is timed
CPU = torch.device("cpu")


def without_record(reference: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Put a reference in the place of ``jvp``, without what a training pass has computed."""
    return lambda *arguments: reference(*arguments[:5])


@dataclass(frozen=True)
class Contestant:
    """A way to train, by the settings of γ that a user writes; None: γ stays."""

    gamma: dict[str, Any] | None
    plain_formulation: bool = False
    jvp: Callable[..., torch.Tensor] = hypergradient.jvp  # how ⟨∇ℓ_i, v⟩ is found


DEFAULT = GammaSettings()
EACH = {"every": 1}
CONTESTANTS = {
    "plain": Contestant(None),
    "plain_formulation": Contestant(None, plain_formulation=True),
    "default": Contestant({}),
    "online": Contestant({"lookahead": "online", **EACH}),
    "lookahead": Contestant({"lookahead": "lookahead", **EACH}),
    "finite_difference": Contestant(
        {"lookahead": "lookahead", **EACH}, jvp=without_record(hypergradient.finite_difference)
    ),
    "second_order": Contestant(
        {"lookahead": "lookahead", **EACH}, jvp=without_record(hypergradient.second_order)
    ),
    **{name: Contestant({"lookahead": "lookahead", **EACH}) for name in ("higher", "torchopt")},
    "betty": Contestant({"lookahead": "online", **EACH}),
}


def algorithm_of(preset: str, contestant: Contestant, dtype: torch.dtype) -> Algorithm:
    """The same initial network for all contestants."""
    gamma = contestant.gamma
    settings = Settings.model_validate(
        {
            "method": "naive_dkd" if gamma is None else "hdkd",
            "model": {"preset": preset},
            "schedule": {"epochs": 1, "base_lr": RATE, "base_batch": 1},
            "gamma": gamma or {},
        }
    )
    torch.manual_seed(0)
    network = build(preset, CLASSES).to(dtype).train()
    if contestant.plain_formulation:
        network = plain_formulation(network)
    hypergradient.jvp = contestant.jvp
    weights = configured_weights(settings, network.num_exits, STEPS, CPU)
    weights.gamma.data, weights.initial = weights.gamma.to(dtype), weights.initial.to(dtype)
    weights.temperature = weights.temperature.to(dtype)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    deepspeed = {"optimizer": {}, "gradient_accumulation_steps": 1}
    engine = PlainEngine(network, optimizer)
    return build_algorithm(engine, weights, unchanged, settings, deepspeed, mean=alone)


def batches(preset: str, size: int, dtype: torch.dtype) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A training and a meta-validation batch of random images."""
    generator = torch.Generator().manual_seed(0)
    side = resolve(preset, {}).input_size
    return [
        (
            torch.randn(size, 3, side, side, generator=generator).to(dtype),
            torch.randint(CLASSES, (size,), generator=generator),
        )
        for _ in range(2)
    ]


def stepper(preset: str, name: str, size: int, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    """A period of γ of a contestant; returns the hypergradient, empty if γ stays."""
    contestant = CONTESTANTS[name]
    algorithm = algorithm_of(preset, contestant, dtype)
    train, metaval = batches(preset, size, dtype)
    if name in LIBRARIES:
        return LIBRARIES[name](algorithm, train, metaval)
    if contestant.gamma is None:

        def step() -> torch.Tensor:
            algorithm.train_step([train])
            return torch.empty(0)

        return step

    def period() -> torch.Tensor:
        _, gradient = algorithm.step([train], [metaval], RATE)
        for _ in range(steps_of(name) - 1):
            algorithm.train_step([train])
        return gradient

    return period


def steps_of(name: str) -> int:
    """Optimiser steps in a period of γ."""
    gamma = CONTESTANTS[name].gamma
    return 1 if gamma is None else gamma.get("every", DEFAULT.every)


def lines_of(name: str) -> int:
    """What a user writes for it: lines of code, or of this project's configuration."""
    return user_lines(LIBRARIES[name]) if name in LIBRARIES else len(CONTESTANTS[name].gamma or {})


def work(preset: str, name: str, size: int) -> None:
    """A contestant's process: a period's seconds per step for each line that arrives."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stdout
    step = stepper(preset, name, size, torch.float32)
    first = step()  # not timed
    print(json.dumps({"gradient": first.tolist()}), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        seconds = (time.perf_counter() - start) / steps_of(name)
        print(json.dumps([seconds, peak_memory_mb(CPU)]), file=answers, flush=True)


def double_backward(preset: str, kind: str, size: int, dtype: torch.dtype) -> torch.Tensor:
    """The hypergradient of the first step of a look-ahead kind, by double backward."""
    second_order = without_record(hypergradient.second_order)
    algorithm = algorithm_of(preset, Contestant({"lookahead": kind}, jvp=second_order), dtype)
    train, metaval = batches(preset, size, dtype)
    return algorithm.step([train], [metaval], RATE)[1].double()


def expectations(preset: str, size: int) -> dict[str, dict[str, torch.Tensor]]:
    """What double backward gives, by kind of look-ahead and by key of the report."""
    precisions = {"relative_error": torch.float64, "relative_error_float32": torch.float32}
    return {
        kind: {key: double_backward(preset, kind, size, dt) for key, dt in precisions.items()}
        for kind in ("lookahead", "online")
    }


def errors(name: str, gradient: list[float], expected: dict) -> dict[str, float | None]:
    """How far a contestant's first hypergradient is from double backward's, relatively.

    Against float64, rounding in θ' counts too: a ReLU network's gradient there jumps at kinks.
    Against float32 only the way of computing counts.
    """
    found = torch.tensor(gradient, dtype=torch.float64)
    kind = (CONTESTANTS[name].gamma or {}).get("lookahead", "online")
    return {
        key: float((found - e).norm() / e.norm()) if gradient else None
        for key, e in expected[kind].items()
    }


def main(
    preset: str = "msdnet-cifar-5",
    batch: int = 128,
    rounds: int = 5,
    threads: int = 2,
    picture: str | None = None,
    json: bool = False,
    worker: str | None = None,
) -> None:
    """Measure all contestants.

    Args:
        preset: the network.
        batch: images in a training and in a meta-validation batch.
        rounds: timed steps of each contestant.
        threads: of torch.
        picture: a file to draw to.
        json: print one JSON object as the last line.
        worker: for the benchmark's own processes.
    """
    torch.set_num_threads(threads)
    if worker is not None:
        work(preset, worker, batch)
        return
    report = measure(preset, batch, rounds, threads)
    print_table(report)
    if picture:
        from hypergradient_picture import draw

        draw(report, Path(picture))
    if json:
        print_json(report)


def available(name: str) -> bool:
    """Whether the contestant's library, if it needs one, is installed."""
    return name not in LIBRARIES or importlib.util.find_spec(name) is not None


def measure(preset: str, batch: int, rounds: int, threads: int) -> dict:
    """All contestants, taking turns."""
    own = [sys.executable, __file__, "--preset", preset, "--batch", str(batch)]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        # Peak memory is inherited: this process must stay small.
        expected = pool.submit(expectations, preset, batch).result()
    processes, firsts = {}, {}
    for name in filter(available, CONTESTANTS):
        processes[name] = subprocess.Popen(
            [*own, "--threads", str(threads), "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        firsts[name] = json.loads(processes[name].stdout.readline())
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    peaks = {}
    for _ in range(rounds):
        for name, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            elapsed, peaks[name] = json.loads(process.stdout.readline())
            seconds[name].append(elapsed)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    plain = statistics.median(seconds["plain"])
    contestants = {}
    for name in processes:
        contestants[name] = {
            "seconds": statistics.median(seconds[name]),
            "ratio": statistics.median(seconds[name]) / plain,
            "peak_mb": peaks[name],
            "memory_ratio": peaks[name] / peaks["plain"],
            **errors(name, firsts[name]["gradient"], expected),
            "user_lines": lines_of(name),
        }
    setup = {
        "preset": preset,
        "batch": batch,
        "rounds": rounds,
        "threads": threads,
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    return {"contestants": contestants, "setup": setup}


def print_table(report: dict) -> None:
    """For people."""
    print(", ".join(f"{key} {value}" for key, value in report["setup"].items()))
    print(
        f"{'':20} {'s/step':>8} {'ratio':>6} {'peak MB':>8} {'ratio':>6} "
        f"{'error to double backward in float32':>36} {'float64':>8} {'lines':>6}"
    )
    for name, row in report["contestants"].items():
        shown = [row["relative_error_float32"], row["relative_error"]]
        same, double = ("" if error is None else f"{error:.0e}" for error in shown)
        print(
            f"{name:20} {row['seconds']:8.3f} {row['ratio']:6.2f} {row['peak_mb']:8.0f} "
            f"{row['memory_ratio']:6.2f} {same:>36} {double:>8} {row['user_lines']:6}"
        )


def print_json(report: dict) -> None:
    """For machines."""
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
