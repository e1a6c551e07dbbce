"""Warnings that say what to do, from the measurements of a run."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from hdkd_dist.data.preparing.workers import available_cores

WAITING = 0.1  # share of time that waiting for data may take
MEMORY = 0.95  # share of a device's or a node's memory that may be in use
SLOW = 0.5  # of the best speed so far
SUM_RATIO = 4.0  # Σγ/Σγ₀ beyond which γ acts as a learning rate
LASTING = 300.0  # seconds for which speed or waiting must be bad: others use the machine as well


@dataclass(frozen=True)
class HealthRecord:
    """Measurements of a run's health since the last record, on rank 0."""

    seconds: float  # of training so far
    images_per_s: float
    waiting: float  # share of time in which the next batch was not ready
    memory: float  # share of the device's memory in use; of the node's on a CPU
    sum_ratio: float  # Σγ/Σγ₀


@dataclass
class Health:
    """Check of every record; each kind of warning is given once per run."""

    workers: int  # loader threads of this rank
    device: torch.device
    _given: set[str] = field(default_factory=set)
    _best: float = 0.0
    _records: int = 0
    _bad_since: dict[str, float] = field(default_factory=dict)  # by kind, in seconds of training

    def warnings(self, record: HealthRecord) -> list[str]:
        """List the warnings of a record that were not given before."""
        self._records += 1
        new = [(kind, text) for kind, text in self._check(record) if kind not in self._given]
        self._given |= {kind for kind, _ in new}
        if self._records > 1:  # the first record holds the compilation of the loader
            self._best = max(self._best, record.images_per_s)
        return [text for _, text in new]

    def _lasts(self, kind: str, bad: bool, now: float) -> bool:
        """Tell whether something has been bad in every record of the last while."""
        if not bad:
            self._bad_since.pop(kind, None)
            return False
        return now - self._bad_since.setdefault(kind, now) >= LASTING

    def _check(self, record: HealthRecord) -> Iterator[tuple[str, str]]:
        late = self._records > 1 and record.waiting > WAITING
        if self._lasts("waiting", late, record.seconds):
            yield (
                "waiting",
                f"the loader is the bottleneck: {record.waiting:.0%} waiting; "
                + (
                    f"raise hdkd.data.workers (now {self.workers} of {available_cores()} cores)"
                    if self.workers < available_cores()
                    else "every core has its worker already: set hdkd.data.local_copy if the data "
                    "lies on a network, or store smaller images (--max_side of data_prep)"
                ),
            )
        if record.memory > MEMORY:
            where = "the node" if self.device.type == "cpu" else "the device"
            yield (
                "memory",
                f"{record.memory:.0%} of the memory of {where} is in use: "
                + (
                    "lower hdkd.data.workers, or set hdkd.data.os_cache to true"
                    if self.device.type == "cpu"
                    else "lower train_micro_batch_size_per_gpu"
                ),
            )
        slow = record.images_per_s < SLOW * self._best
        if self._lasts("speed", slow, record.seconds):
            yield (
                "speed",
                f"training has slowed down to {record.images_per_s:.0f} images/s from "
                f"{self._best:.0f}, for {LASTING / 60:.0f} minutes: look for another process on "
                "the node, a throttled device or a slow file system (wait_fraction in "
                "metrics.jsonl tells)",
            )
        if not 1 / SUM_RATIO < record.sum_ratio < SUM_RATIO:
            yield (
                "sum",
                f"the sum of γ is {record.sum_ratio:.2f} times what it was: γ acts as a learning "
                "rate; lower hdkd.gamma.lr, or set hdkd.gamma.constraint to fixed_sum",
            )


def memory_in_use(device: torch.device) -> float:
    """Return the share of the device's memory that is in use; on a CPU, of the node's."""
    if device.type != "cpu":
        free, total = torch.get_device_module(device).mem_get_info()
        return 1 - free / total
    with open("/proc/meminfo", encoding="ascii") as lines:
        sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return 1 - sizes["MemAvailable"] / sizes["MemTotal"]


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak of memory taken, or on a CPU of resident memory, in 2^20 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts in KiB
