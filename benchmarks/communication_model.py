"""A model of what a training step sends and how long it takes on many GPUs.

What is sent is derived from the network and the settings of γ; benchmarks/scaling.py compares it
with what the same code really sends. Times follow from the assumptions in :class:`Machine`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from collectives import Call, Calls
from torch.utils._python_dispatch import TorchDispatchMode

from hdkd_dist.config.settings import GammaSettings
from hdkd_dist.method.objective import LossLayout
from hdkd_dist.models import build, exit_costs, resolve
from hdkd_dist.paper.costs import EFFICIENCY, PEAK_TMAC


def assumed(value: float, unit: str, what: str) -> Any:
    """A field of :class:`Machine`."""
    return field(default=value, metadata={"unit": unit, "what": what})


@dataclass(frozen=True)
class Machine:
    """What the times rest on; the GPU's part is inferred from an H200 (docs/results/gpu.json)."""

    gpus_per_node: int = assumed(8, "", "GPUs in a node")
    peak_bf16: float = assumed(2 * PEAK_TMAC["bf16"], "TFLOP/s", "of a GPU, all passes (A100)")
    utilisation: float = assumed(EFFICIENCY, "", "part of the peak that convolutions reach")
    launch_us: float = assumed(11, "µs", "of the host per operation, in graphs (as on an H200)")
    micro_batch: int = assumed(256, "images", "at most, per GPU and pass")
    forward_mode: float = assumed(3, "forwards", "cost of a forward-mode pass without a record")
    node_gb: float = assumed(200, "GB/s", "between the GPUs of a node, each way")
    network_gb: float = assumed(25, "GB/s", "between nodes, per node, each way (200 Gb/s)")
    node_us: float = assumed(3.4, "µs", "per hop in a node (NCCL's table, NVLink)")
    network_us: float = assumed(14, "µs", "per hop between nodes (NCCL's table)")
    collective_us: float = assumed(8.4, "µs", "to start a collective (NCCL's table)")
    host_us: float = assumed(30, "µs", "per hop of a vote, host to host by TCP")

    def table(self) -> list[tuple[str, str, str]]:
        """Name, value with unit, and meaning."""
        return [
            (f.name, f"{getattr(self, f.name):g} {f.metadata['unit']}".strip(), f.metadata["what"])
            for f in fields(self)
        ]


def step_calls(parameters: int, exits: int, gamma: GammaSettings | None, log_every: int) -> Calls:
    """The collectives from one record to the next, ``log_every`` steps (ZeRO 0, constant T).

    Args:
        parameters: that are trained.
        exits: K.
        gamma: None if γ stays.
        log_every: a multiple of ``gamma.every``.
    """
    entries, real = len(LossLayout(exits)), torch.float32
    calls: Calls = Counter()

    def reduce(elements: int, times: int, dtype: torch.dtype = real, waits: bool = True) -> None:
        calls[Call("all_reduce", dtype, elements, waits)] += times

    reduce(parameters, log_every)  # ∇L_train, by DeepSpeed
    reduce(1, log_every, torch.int64, waits=False)  # votes on stopping and saving
    reduce(entries + exits + 2, 1)  # the record's means
    calls[Call("all_gather", torch.int64, 3 * entries, True)] += 1  # whether all is finite
    if gamma is None:
        return calls
    moves = log_every // gamma.every
    reduce(2 * (entries + 1 + exits) + 1, moves)  # whether γ, T and E_k agree and are finite
    if gamma.scope == "local":
        reduce(entries + exits, moves)
        return calls
    if gamma.lookahead == "lookahead":
        reduce(parameters, moves)  # ∇L_train at the look-ahead
    reduce(exits, moves)  # CE_k
    reduce(parameters, moves)  # v
    reduce(entries, moves)  # the hypergradient
    return calls


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs."""

    mmac: float  # of an image's forward pass
    parameters: int
    exits: int
    operations: int  # that a forward pass starts


# Operations that the host starts, in those of a forward pass: counted by benchmarks/operations.py
# on msdnet-imagenet-4, whose forward pass has 843.
PLAIN_LAUNCHES = 2.0
GAMMA_LAUNCHES = {"online": 3.5, "lookahead": 4.9}  # besides the plain step's


class Launches(TorchDispatchMode):
    """Counts operations that are not mere views."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: Any = None):
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))


def network_cost(preset: str, classes: int | None = None) -> NetworkCost:
    """Count on the meta device, where nothing is computed; ``classes``: as the preset has."""
    side = resolve(preset, {}).input_size
    with torch.device("meta"):
        network = build(preset, classes).train()
        images = torch.empty(2, 3, side, side)
    with Launches() as launches:
        network(images)
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    mmac = exit_costs(network, side).mmac[-1]
    return NetworkCost(mmac, parameters, network.num_exits, launches.count)


def call_seconds(call: Call, gpus: int, machine: Machine) -> float:
    """One collective: on a ring or, for sums, on trees over nodes, whichever is faster."""
    if gpus == 1:
        return 0.0
    nodes = math.ceil(gpus / machine.gpus_per_node)
    bandwidth = 1e9 * (machine.node_gb if nodes == 1 else machine.network_gb)
    rounds = 2 if call.operation == "all_reduce" else 1
    between = rounds * nodes if nodes > 1 else 0
    within = rounds * (gpus - 1) - between
    ring = 1e-6 * (within * machine.node_us + between * machine.network_us)
    times = [ring + call.sent(gpus) / bandwidth]
    if call.operation == "all_reduce":
        chain = min(gpus, machine.gpus_per_node) - 1
        hops = chain * machine.node_us + math.log2(nodes) * machine.network_us
        times.append(2e-6 * hops + 2 * call.bytes / bandwidth)
    return 1e-6 * machine.collective_us + min(times)


@dataclass(frozen=True)
class Projection:
    """A training step on many GPUs; means over steps with and without γ."""

    gpus: int
    batch: int  # over all GPUs
    micro_batch: int
    accumulation: int
    sent_bytes: float  # per GPU and step, on a ring
    compute_s: float
    communication_s: float  # nothing overlaps: the code waits for every collective
    votes_s: float  # they travel during the step
    efficiency: float  # to GPUs that train full micro-batches alone

    @property
    def step_s(self) -> float:
        """A step is not over before the votes of the one before have arrived."""
        return max(self.compute_s + self.communication_s, self.votes_s)

    @property
    def share(self) -> float:
        """Part of the step that is not computing."""
        return 1 - self.compute_s / self.step_s


def compute_seconds(
    cost: NetworkCost, gamma: GammaSettings | None, size: int, passes: int, machine: Machine
) -> float:
    """Passes of one GPU in a step: ``passes`` micro-batches of ``size`` images."""

    def seconds(forwards: float, launches: float) -> float:
        arithmetic = 2e6 * cost.mmac * size / (1e12 * machine.peak_bf16 * machine.utilisation)
        launching = 1e-6 * machine.launch_us * cost.operations
        return passes * max(forwards * arithmetic, launches * launching)

    plain = seconds(3, PLAIN_LAUNCHES)
    if gamma is None:
        return plain
    looked = 3 if gamma.lookahead == "lookahead" else 0
    ce_first = passes > 1  # CE_k by a pass of its own, see docs/gamma-step.md
    # Without accumulation the convolutions' outputs are there from the training pass.
    recorded = passes == 1
    forwards = looked + 3 + ce_first + machine.forward_mode - recorded
    launches = GAMMA_LAUNCHES["lookahead" if looked else "online"] + ce_first
    return plain + seconds(forwards, launches) / gamma.every


def project(
    cost: NetworkCost,
    gamma: GammaSettings | None,
    gpus: int,
    batch: int,
    machine: Machine,
    log_every: int = 20,
) -> Projection:
    """The model's step of ``batch`` images on ``gpus`` GPUs."""
    per_gpu = batch // gpus
    size = min(per_gpu, machine.micro_batch)
    passes = math.ceil(per_gpu / size)
    calls = step_calls(cost.parameters, cost.exits, gamma, log_every)
    waited = {call: times for call, times in calls.items() if call.waits}
    parts = {
        "sent_bytes": sum(n * call.sent(gpus) for call, n in calls.items()) / log_every,
        "compute_s": compute_seconds(cost, gamma, size, passes, machine),
        "communication_s": sum(n * call_seconds(call, gpus, machine) for call, n in waited.items())
        / log_every,
        "votes_s": 2e-6 * (gpus - 1) * machine.host_us,  # gloo's ring, one number
    }
    found = Projection(gpus, batch, size, passes, efficiency=0.0, **parts)
    full = machine.micro_batch
    alone = full / compute_seconds(cost, gamma, full, 1, machine)  # images/s of a GPU
    efficiency = batch / found.step_s / (gpus * alone)
    return Projection(gpus, batch, size, passes, efficiency=efficiency, **parts)
