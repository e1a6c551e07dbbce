"""What a step of γ costs: time, peak memory and error of each way to compute it.

    python benchmarks/hypergradient.py [--preset msdnet-cifar-5] [--batch 128] [--rounds 5] [--json]

Every contestant runs in a process of its own, for a true peak memory; the processes take turns,
one optimiser step each, so that a slow minute of the machine hits all. A step is what training
does: γ's update where there is one, and θ's.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hdkd_dist import cli
from hdkd_dist.method.hypergradient import Parameters
from hdkd_dist.models import build, resolve
from hdkd_dist.training.functional import forward_of
from hdkd_dist.training.harmony import start_harmony
from hdkd_dist.training.learner import Learner
from hdkd_dist.training.memory import peak_memory_mb
from hdkd_dist.training.network_step import train_network
from hdkd_dist.training.settings import Settings
from hdkd_dist.training.step import LOOK_AHEADS

RATE, MOMENTUM, CLASSES = 0.1, 0.9, 100
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Contestant:
    """A way to train, by the settings of γ; None: γ stays."""

    gamma: dict[str, str] | None


CONTESTANTS = {
    "plain": Contestant(None),
    "lookahead": Contestant({"lookahead": "lookahead"}),
    "online": Contestant({"lookahead": "online"}),
    "second_order": Contestant({"solver": "second_order"}),
    "finite_difference": Contestant({"solver": "finite_difference"}),
}


class PlainEngine:
    """DeepSpeed's three calls in plain torch: what is measured is the method."""

    def __init__(self, network: torch.nn.Module):
        self.network = network
        self.optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)

    def __call__(self, images: torch.Tensor, **arguments: bool) -> torch.Tensor:
        return self.network(images, **arguments)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


def learner_of(preset: str, gamma: dict[str, str] | None, dtype: torch.dtype) -> Learner:
    """The same initial network for all contestants."""
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
    harmony = start_harmony(settings, network.num_exits, CPU)
    harmony.gamma.data = harmony.gamma.data.to(dtype)
    harmony.temperature = harmony.temperature.to(dtype)
    forward = forward_of(network, lambda images: images)
    parameters: Parameters = dict(network.named_parameters())
    return Learner(
        engine=PlainEngine(network),
        harmony=harmony,
        parameters=parameters,
        forward=forward,
        train_forward=forward,
        prepare=lambda images: images,
        gradient_equilibrium=False,
        gradient_share=1.0,
        annealing=False,
        settings=settings.gamma,
        mean=list,
    )


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
    """One optimiser step of a contestant; returns the hypergradient, empty if γ stays."""
    contestant = CONTESTANTS[name]
    learner = learner_of(preset, contestant.gamma, dtype)
    train, metaval = batches(preset, size, dtype)
    if contestant.gamma is None:

        def step() -> torch.Tensor:
            train_network(learner, [train])
            return torch.empty(0)

        return step
    harmonised_step = LOOK_AHEADS[learner.settings.lookahead]
    return lambda: harmonised_step(learner, [train], [metaval], RATE)[1]


def work(preset: str, name: str, size: int) -> None:
    """A contestant's process: a step and its seconds for each line that arrives."""
    step = stepper(preset, name, size, torch.float32)
    first = step()  # not timed
    print(json.dumps({"peak_mb": peak_memory_mb(CPU), "gradient": first.tolist()}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(json.dumps([time.perf_counter() - start, peak_memory_mb(CPU)]), flush=True)


def double_backward(preset: str, kind: str, size: int, dtype: torch.dtype) -> torch.Tensor:
    """The hypergradient of the first step of a look-ahead kind, by double backward."""
    learner = learner_of(preset, {"lookahead": kind, "solver": "second_order"}, dtype)
    train, metaval = batches(preset, size, dtype)
    return LOOK_AHEADS[kind](learner, [train], [metaval], RATE)[1].double()


def errors(preset: str, name: str, size: int, gradient: list[float]) -> dict[str, float | None]:
    """How far a contestant's first hypergradient is from double backward's, relatively.

    Against float64, rounding in θ' counts too: a ReLU network's gradient there jumps at kinks.
    Against float32 only the way of computing counts.
    """
    found = torch.tensor(gradient, dtype=torch.float64)
    kind = (CONTESTANTS[name].gamma or {}).get("lookahead", "lookahead")
    rows = {"relative_error": torch.float64, "relative_error_float32": torch.float32}
    if not gradient:
        return dict.fromkeys(rows)
    expected = {key: double_backward(preset, kind, size, dtype) for key, dtype in rows.items()}
    return {key: float((found - e).norm() / e.norm()) for key, e in expected.items()}


def main(
    preset: str = "msdnet-cifar-5",
    batch: int = 128,
    rounds: int = 5,
    threads: int = 2,
    json: bool = False,
    worker: str | None = None,
) -> None:
    """Measure all contestants.

    Args:
        preset: the network.
        batch: images in a training and in a meta-validation batch.
        rounds: timed steps of each contestant.
        threads: of torch.
        json: print one JSON object as the last line.
        worker: for the benchmark's own processes.
    """
    torch.set_num_threads(threads)
    if worker is not None:
        work(preset, worker, batch)
        return
    report = measure(preset, batch, rounds, threads)
    print_table(report)
    if json:
        print_json(report)


def measure(preset: str, batch: int, rounds: int, threads: int) -> dict:
    """All contestants, taking turns."""
    own = [sys.executable, __file__, "--preset", preset, "--batch", str(batch)]
    processes, firsts = {}, {}
    for name in CONTESTANTS:
        processes[name] = subprocess.Popen(
            [*own, "--threads", str(threads), "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        firsts[name] = json.loads(processes[name].stdout.readline())
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
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
    for name in CONTESTANTS:
        contestants[name] = {
            "seconds": statistics.median(seconds[name]),
            "ratio": statistics.median(seconds[name]) / plain,
            "peak_mb": peaks[name],
            "memory_ratio": peaks[name] / peaks["plain"],
            **errors(preset, name, batch, firsts[name]["gradient"]),
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
        f"{'':18} {'s/step':>8} {'ratio':>6} {'peak MB':>8} {'ratio':>6} "
        f"{'error to double backward in float32':>36} {'float64':>8}"
    )
    for name, row in report["contestants"].items():
        shown = [row["relative_error_float32"], row["relative_error"]]
        same, double = ("" if error is None else f"{error:.0e}" for error in shown)
        print(
            f"{name:18} {row['seconds']:8.3f} {row['ratio']:6.2f} {row['peak_mb']:8.0f} "
            f"{row['memory_ratio']:6.2f} {same:>36} {double:>8}"
        )


def print_json(report: dict) -> None:
    """For machines."""
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
