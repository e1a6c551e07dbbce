"""Communication between ranks. Every rank calls these functions, in the same order."""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _set_pg_timeout

Value = TypeVar("Value")

# What a launcher tells each process. Of itself MASTER_ADDR or MASTER_PORT starts nothing.
PLACE = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
LAUNCHED = (*PLACE, "MASTER_ADDR", "MASTER_PORT")
# Preparing and copying data may take a rank hours; the watchdog sees to ranks that hang.
PATIENCE = timedelta(days=7)
# Until they have connected to each other nobody watches; imports over a network take minutes.
MEETING = 600.0  # seconds


def world_size() -> int:
    """Read the number of ranks from the launcher's environment."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """Read this process's rank from the launcher's environment."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Read this process's rank on its node from the launcher's environment."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world_size() -> int:
    """Read the number of ranks on this node from the launcher's environment."""
    return int(os.environ.get("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", world_size())))


def planned_world_size(environment: Mapping[str, str]) -> int:
    """Return the number of ranks that a check is for: WORLD_SIZE, by default one.

    Raises:
        ValueError: for no positive whole number.
    """
    text = environment.get("WORLD_SIZE", "1")
    if not whole(text) or int(text) < 1:
        raise ValueError(f"WORLD_SIZE is {text!r} but must be the number of ranks: set or unset it")
    return int(text)


def is_launched(environment: Mapping[str, str]) -> bool:
    """Tell whether a launcher has started this process, which then has all of its variables.

    Raises:
        ValueError: where only some are set, left over from elsewhere, or are no ranks; and if a
            launcher has started several processes and not told them their ranks: each would train
            alone.
    """
    given = [name for name in PLACE if name in environment]
    missing = [name for name in LAUNCHED if not environment.get(name)]
    if given and missing:
        raise ValueError(
            f"the environment has {', '.join(given)} and no value for "
            f"{', '.join(missing)}: a launcher sets {', '.join(LAUNCHED)}; to train without one, "
            f"unset {' '.join(given)}"
        )
    for variable in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        tasks = environment.get(variable, "1")
        if not given and tasks != "1":
            raise ValueError(
                f"{variable} is {tasks} but RANK is not set: each task needs {', '.join(LAUNCHED)}"
            )
    numbers = [environment[name] for name in given]
    if numbers and not (all(map(whole, numbers)) and int(numbers[0]) < int(numbers[2])):
        told = ", ".join(f"{name}={environment[name]}" for name in given)
        raise ValueError(f"the launcher's variables are no ranks, from 0 to WORLD_SIZE - 1: {told}")
    port = environment.get("MASTER_PORT", "1")
    if given and not (whole(port) and 0 < int(port) < 2**16):
        raise ValueError(f"MASTER_PORT is {port!r} but must be a port, from 1 to {2**16 - 1}")
    return bool(given)


def whole(text: str) -> bool:
    """Tell whether a text is a whole number from 0 on."""
    return text.isascii() and text.isdigit()


def complete_environment() -> None:
    """Let a run start without a launcher, as a single rank: ``python hdkd_dist/train.py``.

    Raises:
        ValueError: for an environment that :func:`is_launched` refuses.
    """
    if is_launched(os.environ):
        return
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ.update(alone, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))


def free_port() -> int:
    """Find a TCP port of this host that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RankFault(ValueError):
    """A fault that not all ranks have; the rank that has it speaks (see ``cli.fail``)."""

    one_rank = True


@cache
def host_group() -> dist.ProcessGroup:
    """Return the group in which ranks talk on the host; the first call is collective.

    Its collectives take CPU tensors and never wait for the devices' traffic.
    """
    group = dist.new_group(backend="gloo", timeout=timedelta(seconds=MEETING))  # to connect
    _set_pg_timeout(PATIENCE, group)
    return group


def from_leader(value: Callable[[], Value]) -> Value:
    """Return on every rank what ``value()`` gives on rank 0; collective.

    Raises:
        ValueError: what ``value`` raised on rank 0; the other ranks exit with status 2.
    """
    box: list[Any] = [None]
    with agreement():
        if rank() == 0:
            box = [value()]
    dist.broadcast_object_list(box, src=0, group=host_group(), device=torch.device("cpu"))
    return box[0]


def leader_tries(action: Callable[[], None]) -> str | None:
    """Try ``action()`` on rank 0; return on every rank why it failed, or None; collective."""
    fault: list[str | None] = [None]
    if rank() == 0:
        try:
            action()
        except (OSError, RuntimeError) as error:
            fault = [str(error)]
    dist.broadcast_object_list(fault, src=0, group=host_group(), device=torch.device("cpu"))
    return fault[0]


@contextmanager
def agreement() -> Iterator[None]:
    """Let a part of the set-up succeed on all ranks or end all of them; collective.

    The first rank that fails says why; the others, on whatever node, leave with status 2 instead
    of waiting for it. The part itself must not communicate.
    """
    fault: ValueError | None = None
    try:
        yield
    except ValueError as error:
        fault = error
    speaker = torch.tensor(dist.get_world_size() if fault is None else rank())
    dist.all_reduce(speaker, op=dist.ReduceOp.MIN, group=host_group())
    if fault is not None and int(speaker) == rank():
        raise RankFault(str(fault)) from fault
    if int(speaker) < dist.get_world_size():
        sys.exit(2)


def mean_over_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the elementwise mean of each tensor over all ranks, in one collective.

    Summed and then divided, for not every backend can average.
    """
    if dist.get_world_size() == 1:
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Return the elementwise sum over all ranks."""
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def agree(replica: Tensor) -> tuple[Tensor, Tensor]:
    """Agree on a tensor that every rank should hold alike, and measure how far ranks differ.

    The replicas' elementwise maximum is taken: unlike a mean it is equal to the bit to replicas
    that agree, for any number of ranks, and the difference to the minimum shows a drift, which
    averaging would hide. What is not finite on some rank shows as an infinite difference: NCCL's
    maximum of a number and NaN is the number.

    Args:
        replica: [m].

    Returns:
        The maximum over ranks [m], and the largest difference of any entry, without dimensions.
    """
    broken = (~replica.isfinite()).any().to(replica).view(1)
    extremes = torch.cat([replica, -replica, broken])
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    highest, negated_lowest, broken = extremes.tensor_split([len(replica), 2 * len(replica)])
    difference = (highest + negated_lowest).abs().amax()
    return highest, torch.where(broken[0] > 0, math.inf, difference)


def gather_from_ranks(tensor: Tensor) -> Tensor:
    """Stack the tensor […] of each rank to [R, …], on every rank."""
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return torch.stack(parts)


NOTHING, SAVE = 0, 1  # SAVE + a signal's number asks to stop


class DelayedMax:
    """Asynchronous maximum over ranks of one whole number per step, read one step later.

    The numbers travel on the host while the step is computed and are looked at one step later, when
    they have long arrived: neither a device nor, in general, the host waits.
    """

    def __init__(self) -> None:
        self._sent: tuple[Tensor, dist.Work] | None = None

    def exchange(self, value: int) -> int:
        """Send this rank's number; return the maximum of the call before; collective."""
        maximum = NOTHING
        if self._sent is not None:
            reduced, work = self._sent
            work.wait()
            maximum = int(reduced)
        tensor = torch.tensor(value)
        work = dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=host_group(), async_op=True)
        self._sent = tensor, work
        return maximum
