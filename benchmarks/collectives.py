"""Records what torch.distributed is asked to send: nothing is estimated.

DeepSpeed, torch and this project all call these functions, so every collective is seen once.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

OWN_PART = {  # the argument that holds what a rank gives
    "all_reduce": "tensor",
    "all_gather": "tensor",
    "all_gather_into_tensor": "input_tensor",
    "reduce_scatter_tensor": "input",
    "broadcast": "tensor",
    "reduce": "tensor",
}
RING = {  # bytes that each of n ranks sends on a ring, per byte of a rank's own part
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "all_gather": lambda n: n - 1,
}


class Call(NamedTuple):
    """A collective as one rank calls it."""

    operation: str
    dtype: torch.dtype
    elements: int
    waits: bool  # whether the step waits for it

    @property
    def bytes(self) -> int:
        """Of the tensor that the rank gives."""
        return self.elements * self.dtype.itemsize

    def sent(self, ranks: int) -> float:
        """Bytes that each rank sends on a ring."""
        return RING[self.operation](ranks) * self.bytes


Calls = Counter[Call]


@dataclass
class Record:
    """What was called, and how long the calls took."""

    calls: Calls = field(default_factory=Counter)
    seconds: float = 0.0  # waiting for other ranks included
    inside: bool = False  # a call: under a mode of torch's it calls itself once more


@contextmanager
def recording_collectives() -> Iterator[Record]:
    """Within, what this rank asks torch.distributed to send."""
    record = Record()
    with ExitStack() as stack:
        for name in OWN_PART:
            function = recorded(getattr(distributed_c10d, name), OWN_PART[name], record)
            for module in (dist, distributed_c10d):
                stack.enter_context(mock.patch.object(module, name, function))
        yield record


def recorded(function: Callable, own_part: str, record: Record) -> Callable:
    """``function``, which also writes its calls down."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if record.inside:
            return function(*arguments, **keywords)
        given = signature.bind(*arguments, **keywords).arguments
        tensor = given[own_part]
        waits = not given.get("async_op", False)
        record.calls[Call(function.__name__, tensor.dtype, tensor.numel(), waits)] += 1
        start, record.inside = time.perf_counter(), True
        try:
            return function(*arguments, **keywords)
        finally:
            record.inside = False
            record.seconds += time.perf_counter() - start

    return call


def repeat(calls: Calls) -> None:
    """Send as much again, with nothing computed in between."""
    for call, times in calls.items():
        tensor = torch.zeros(call.elements, dtype=call.dtype)
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        for _ in range(times):
            if call.operation == "all_reduce":
                dist.all_reduce(tensor)
            else:
                assert call.operation == "all_gather", call
                dist.all_gather(parts, tensor)
