"""Warnings that say what to do, from the figures of a run."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

WAITING = 0.1  # share of time that waiting for data may take
MEMORY = 0.95  # share of a device's or a node's memory that may be in use
SLOW = 0.5  # of the best speed so far
SUM_RATIO = 4.0  # Σγ/Σγ₀ beyond which γ acts as a learning rate
SETTLED = 5  # records after which speeds are compared


@dataclass(frozen=True)
class Figures:
    """What one record says of a run's health, on rank 0."""

    images_per_s: float
    waiting: float  # share of time in which the next batch was not ready
    memory: float  # share of the device's memory in use; of the node's on a CPU
    sum_ratio: float  # Σγ/Σγ₀


@dataclass
class Health:
    """Looks at every record; each kind of warning is given once per run."""

    workers: int  # loader threads of this rank
    device: torch.device
    _given: set[str] = field(default_factory=set)
    _best: float = 0.0
    _records: int = 0

    def warnings(self, figures: Figures) -> list[str]:
        """What has to be said now that was not said before."""
        self._records += 1
        new = [(kind, text) for kind, text in self._check(figures) if kind not in self._given]
        self._given |= {kind for kind, _ in new}
        if self._records > 1:  # the first record holds the compilation of the loader
            self._best = max(self._best, figures.images_per_s)
        return [text for _, text in new]

    def _check(self, figures: Figures) -> Iterator[tuple[str, str]]:
        if self._records > 1 and figures.waiting > WAITING:
            yield (
                "waiting",
                f"the loader is the bottleneck: {figures.waiting:.0%} waiting; "
                + (
                    f"raise hdkd.data.workers (now {self.workers} of {cores()} cores)"
                    if self.workers < cores()
                    else "every core has its worker already: set hdkd.data.local_copy if the data "
                    "lies on a network, or store smaller images (--max_side of data_prep)"
                ),
            )
        if figures.memory > MEMORY:
            where = "the node" if self.device.type == "cpu" else "the device"
            yield (
                "memory",
                f"{figures.memory:.0%} of the memory of {where} is in use: "
                + (
                    "lower hdkd.data.workers, or set hdkd.data.os_cache to true"
                    if self.device.type == "cpu"
                    else "lower train_micro_batch_size_per_gpu"
                ),
            )
        if self._records > SETTLED and figures.images_per_s < SLOW * self._best:
            yield (
                "speed",
                f"training has slowed down to {figures.images_per_s:.0f} images/s from "
                f"{self._best:.0f}: look for another process on the node, a throttled device or "
                "a slow file system (wait_fraction in metrics.jsonl tells)",
            )
        if not 1 / SUM_RATIO < figures.sum_ratio < SUM_RATIO:
            yield (
                "sum",
                f"the sum of γ is {figures.sum_ratio:.2f} times what it was: γ acts as a learning "
                "rate; lower hdkd.gamma.lr, or set hdkd.gamma.constraint to fixed_sum",
            )


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_in_use(device: torch.device) -> float:
    """The share of the device's memory that is taken; on a CPU, of the node's."""
    if device.type != "cpu":
        free, total = torch.get_device_module(device).mem_get_info()
        return 1 - free / total
    with open("/proc/meminfo", encoding="ascii") as lines:
        sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return 1 - sizes["MemAvailable"] / sizes["MemTotal"]


def peak_memory_mb(device: torch.device) -> float:
    """Peak of allocated memory on an accelerator, of resident memory on the CPU, in 2^20 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts in KiB
