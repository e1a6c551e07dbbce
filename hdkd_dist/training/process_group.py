"""The ranks of a run as a process group, and the device of each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from torch.distributed.distributed_c10d import _get_default_store, _set_pg_timeout

from hdkd_dist.data.preparing.workers import available_cores
from hdkd_dist.distributed import ranks
from hdkd_dist.distributed.devices import check_gpus, device_index, named_by_local_rank
from hdkd_dist.distributed.meeting import met
from hdkd_dist.distributed.ranks import MEETING, PATIENCE
from hdkd_dist.distributed.watchdog import is_broken_connection


@contextmanager
def joined_ranks(patience: timedelta = PATIENCE, limit: float = MEETING) -> Iterator[torch.device]:
    """Give this rank's device, with the process group up; take it down whatever happens.

    Args:
        patience: how long a collective may wait for other ranks before its backend ends the rank.
        limit: seconds in which all ranks must have come and connected to each other.
    """
    device = join_ranks(patience, limit)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def join_ranks(patience: timedelta = PATIENCE, limit: float = MEETING) -> torch.device:
    """Start the process group and return this rank's device.

    Raises:
        ValueError: if there is no device for this rank, torch cannot use the GPUs there are, or
            ranks do not come or cannot connect to each other.
    """
    check_gpus()
    deepspeed.utils.logger.setLevel(logging.WARNING)
    ranks.complete_environment()
    accelerator = get_accelerator()
    on_cpu = accelerator.device_name() == "cpu"
    index = 0 if on_cpu else device_index(ranks.local_rank(), accelerator.device_count())
    if not on_cpu:
        accelerator.set_device(index)
    with met(limit), connecting(), without_shared_buffers(), named_by_local_rank(index):
        deepspeed.init_distributed(
            dist_backend=None, verbose=False, timeout=timedelta(seconds=limit)
        )
    _set_pg_timeout(patience)
    _get_default_store().set_timeout(patience)
    if on_cpu:
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, available_cores() // ranks.local_world_size()))
        return torch.device("cpu")
    return torch.device(accelerator.device_name(index))


@contextmanager
def connecting() -> Iterator[None]:
    """Turn a failure of ranks that have met to connect for their traffic into one line.

    Raises:
        RankFault: in place of the backend's error.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_broken_connection(error):
            raise
        first = str(error).strip().partition("\n")[0]
        raise ranks.RankFault(
            f"the ranks have met at MASTER_ADDR but cannot connect to each other ({first}): choose "
            "a network that joins their machines by GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
        ) from error


@contextmanager
def without_shared_buffers() -> Iterator[None]:
    """Keep DeepSpeed from setting up shared memory for the collectives of its CPU *inference*.

    Otherwise it leaks 69 MB per rank per run in ``/dev/shm``.
    """
    local_size = os.environ.pop("LOCAL_SIZE", None)  # tells it that all ranks are on one node
    try:
        yield
    finally:
        if local_size is not None:
            os.environ["LOCAL_SIZE"] = local_size
