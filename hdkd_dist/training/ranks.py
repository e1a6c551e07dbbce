"""What the ranks tell each other. Every rank calls these, in the same order."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """The number of ranks, from the launcher's environment."""
    return int(os.environ.get("WORLD_SIZE", 1))


def rank() -> int:
    """This process's rank, from the launcher's environment."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """This process's rank on its node, from the launcher's environment."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world_size() -> int:
    """The number of ranks on this node, from the launcher's environment."""
    return int(os.environ.get("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", world_size())))


def complete_environment() -> None:
    """Let a run start without a launcher, as a single rank: ``python hdkd_dist/train.py``."""
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ.update(alone, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def mean_over_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The elementwise mean of each tensor over all ranks, in one collective.

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
    """The elementwise sum over all ranks."""
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def agree(replica: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor that every rank should hold alike, and by how much the ranks differ.

    The replicas' elementwise maximum is taken: unlike a mean it is equal to the bit to replicas
    that agree, for any number of ranks, and the difference to the minimum shows a drift, which
    averaging would hide. NaN counts as a drift only if not all ranks have it.

    Args:
        replica: [m].

    Returns:
        The maximum over ranks [m], and the largest difference of any entry, without dimensions.
    """
    extremes = torch.cat([replica, -replica])
    dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
    highest, negated_lowest = extremes.chunk(2)
    return highest, (highest + negated_lowest).abs().amax()


def gather_from_ranks(tensor: Tensor) -> Tensor:
    """[…] on each rank → [R, …] on every rank."""
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor)
    return torch.stack(parts)
