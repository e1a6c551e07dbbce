"""How training scales: measured on two cores, counted on the wire, modelled up to 1,024 GPUs.

    python benchmarks/scaling.py [--preset msdnet-cifar-small] [--micro_batch 64] [--rounds 12]
                                 [--picture FILE] [--json]

Weak scaling: every rank has a micro-batch of its own, one thread and one core. Each round times,
for every mode, one rank alone on either core, two ranks that know nothing of each other side by
side, and two ranks that train together. The ranks talk over the loopback interface of a network
namespace of their own, if that is allowed, so that its byte counter holds nothing else.
"""

from __future__ import annotations

import dataclasses
import json as json_format
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from collectives import Calls
from communication_model import Machine, network_cost, project, step_calls
from own_network import enter_own_network, in_own_network
from scaling_rank import CLASSES, MODES, configuration, serve
from scaling_tables import print_tables

from hdkd_dist import cli
from hdkd_dist.config.settings import GammaSettings
from hdkd_dist.distributed.ranks import free_port

MODELLED = "msdnet-imagenet-4"
GPUS = [2**k for k in range(3, 11)]
BATCHES = [2**k for k in range(10, 15)]
SETTINGS = ("alone_0", "alone_1", "beside_0", "beside_1", "together_0", "together_1")


class Process:
    """A rank in a process of its own."""

    def __init__(self, core: int, environment: dict[str, str], preset: str, micro_batch: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        arguments = (other, core, environment, preset, micro_batch)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        other.close()

    def ask(self, *request: Any) -> None:
        """Send a request; its answer must be fetched."""
        self.pipe.send(request)

    def answer(self) -> Any:
        """Wait for the answer to the oldest request."""
        return self.pipe.recv()


def asked(processes: Sequence[Process], *request: Any) -> list[Any]:
    """The answers of several processes to the same request, which they work on at once."""
    for process in processes:
        process.ask(*request)
    return [process.answer() for process in processes]


def start(preset: str, micro_batch: int) -> tuple[list[Process], list[Process]]:
    """Two single ranks, one per core, and two ranks of one run on the same cores."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise ValueError("weak scaling from 1 to 2 ranks needs two cores, and there is one")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    single = [Process(core, {}, preset, micro_batch) for core in cores]
    pair = [
        Process(core, {**shared, "RANK": str(r), "LOCAL_RANK": str(r)}, preset, micro_batch)
        for r, core in enumerate(cores)
    ]
    for process in (*single, *pair):
        assert process.answer() == "ready"
    return single, pair


def gamma_of(mode: str, preset: str) -> GammaSettings | None:
    """The settings of γ in a mode; None if γ stays."""
    settings = configuration(preset, 1, MODES[mode]).hdkd
    return None if settings.method == "naive_dkd" else settings.gamma


def measure(preset: str, micro_batch: int, rounds: int, period: int) -> dict[str, Any]:
    """Count, and time in turns."""
    single, pair = start(preset, micro_batch)
    wire, counts = {}, {}
    for mode in MODES:
        (before,) = asked(pair[:1], "wire")
        counts[mode] = asked(pair, "count", mode)
        (after,) = asked(pair[:1], "wire")
        wire[mode] = after - before
        asked(pair, "timed", mode, period)  # warms up
        asked(single, "timed", mode, period)
    log_every = configuration(preset, micro_batch, {}).hdkd.run.log_every
    seconds: dict[str, dict[str, list[float]]] = {
        mode: {key: [] for key in (*SETTINGS, "collectives", "bare")} for mode in MODES
    }
    for _ in range(rounds):
        for mode, found in seconds.items():
            turns = [
                *asked(single[:1], "timed", mode, period),
                *asked(single[1:], "timed", mode, period),
                *asked(single, "timed", mode, period),
                *asked(pair, "timed", mode, period),
            ]
            for setting, (step, _) in zip(SETTINGS, turns, strict=True):
                found[setting].append(step)
            found["collectives"].append(min(inside for _, inside in turns[-2:]))
            found["bare"].append(max(asked(pair, "bare", counts[mode][0], log_every)))
    for process in (*single, *pair):
        process.pipe.send(None)
        process.process.join()
    return {
        "scaling": {mode: weak_scaling(found) for mode, found in seconds.items()},
        "traffic": {
            mode: traffic(preset, mode, log_every, counts[mode], wire[mode]) for mode in MODES
        },
    }


def weak_scaling(found: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over rounds, and where the time of a step on two ranks goes, in seconds."""
    medians = {key: median(values) for key, values in found.items()}
    one = (medians["alone_0"] + medians["alone_1"]) / 2
    beside = (medians["beside_0"] + medians["beside_1"]) / 2
    two = max(medians["together_0"], medians["together_1"])
    return {
        "seconds_1": one,
        "seconds_beside": beside,
        "seconds_2": two,
        "efficiency": one / two,
        "efficiency_beside": one / beside,
        "loss": {
            "sharing": beside - one,  # of caches, memory and clock: without any communication
            "sending": medians["bare"],
            "waiting": two - beside - medians["bare"],  # for the slower rank, and for copies
        },
        "seconds_in_collectives": medians["collectives"],
        "rounds": found,
    }


def traffic(
    preset: str, mode: str, log_every: int, counts: list[Calls], wire: int
) -> dict[str, Any]:
    """What was counted per step, beside the model and the interface's counter."""
    cost, calls = network_cost(preset, CLASSES), counts[0]
    model = step_calls(cost.parameters, cost.exits, gamma_of(mode, preset), log_every)
    ring = sum(times * call.sent(2) for call, times in calls.items()) / log_every
    return {
        "calls": [
            {**call._asdict(), "dtype": str(call.dtype), "per_step": times / log_every}
            for call, times in sorted(calls.items(), key=lambda item: -item[0].bytes)
        ],
        "bytes_per_step": sum(n * call.bytes for call, n in calls.items()) / log_every,
        "model_bytes_per_step": sum(n * call.bytes for call, n in model.items()) / log_every,
        "model_equals_count": all(count == model for count in counts),
        "ring_bytes_per_step": ring,
        "wire_bytes_per_step": wire / log_every / 2,  # of one of two ranks
        "wire_to_ring": wire / log_every / 2 / ring,
    }


def projections(machine: Machine) -> dict[str, list[dict[str, Any]]]:
    """The model's table, for plain training and HDKD as it is shipped."""
    cost = network_cost(MODELLED)
    table = {}
    for mode in ("plain", "default"):
        gamma = gamma_of(mode, MODELLED)
        found = [project(cost, gamma, n, batch, machine) for batch in BATCHES for n in GPUS]
        table[mode] = [
            {**dataclasses.asdict(p), "step_s": p.step_s, "communication_share": p.share}
            for p in found
        ]
    return table


def main(
    preset: str = "msdnet-cifar-small",
    micro_batch: int = 64,
    rounds: int = 12,
    period: int = 2,
    machine: str = "{}",
    picture: str | None = None,
    json: bool = False,
) -> None:
    """Measure, count and model.

    Args:
        preset: the network that is measured, on images of its size.
        micro_batch: images per rank and step.
        rounds: turns of everything that is timed.
        period: steps in a turn, a multiple of gamma.every.
        machine: other assumptions of the model, such as '{"network_gb": 100}'.
        picture: a file to draw to.
        json: print one JSON object as the last line.
    """
    assumptions = Machine(**json_format.loads(machine))
    enter_own_network()
    os.environ.update(OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    report = {
        "setup": {
            "preset": preset,
            "micro_batch": micro_batch,
            "rounds": rounds,
            "period": period,
            "own_network": in_own_network(),
            "torch": torch.__version__,
        },
        **measure(preset, micro_batch, rounds, period),
        "modelled": {"preset": MODELLED, **dataclasses.asdict(network_cost(MODELLED))},
        "assumptions": dataclasses.asdict(assumptions),
        "projection": projections(assumptions),
    }
    print_tables(report, assumptions)
    if picture:
        from scaling_picture import draw

        draw(report, Path(picture))
    if json:
        print(json_format.dumps(report))


if __name__ == "__main__":
    cli.run(main)
