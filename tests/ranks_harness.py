"""Runs a function on gloo ranks, each a process of its own; returns what each of them returned."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from forking import FORKED

from hdkd_dist.distributed.ranks import free_port


def _rank(
    rank: int, world_size: int, port: int, folder: str, function: Callable, arguments
) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.save(function(*arguments), Path(folder, str(rank)))
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # as training does: see cli.leaving_at_once


def on_ranks(
    world_size: int,
    function: Callable[..., Any],
    *arguments: Any,
    start_method: str = FORKED.get_start_method(),
) -> list[Any]:
    """``function(*arguments)`` on each of ``world_size`` ranks; its results, by rank.

    A rank that computes on a GPU must be started by ``spawn``: importing DeepSpeed looks for one,
    after which CUDA does not work in forks.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = (world_size, free_port(), folder, function, arguments)
        mp.start_processes(_rank, given, nprocs=world_size, start_method=start_method)
        files = [Path(folder, str(rank)) for rank in range(world_size)]
        return [torch.load(file, weights_only=False) for file in files]  # of our own making
