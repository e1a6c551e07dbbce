"""A small multi-exit network in training mode, and batches for it, for numerical tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hdkd_dist.method.functional import forward_of
from hdkd_dist.method.hypergradient import Forward
from hdkd_dist.models import MultiExitNetwork, build

CLASSES = 5


class Branching(nn.Module):
    """Three exits, smooth everywhere (finite differences need that), with batch norm."""

    num_exits = 3

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus())
            for a in (3, 4, 4)
        )
        self.heads = nn.ModuleList(nn.Linear(4 * 36, CLASSES) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        logits = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            images = stage(images)
            logits.append(head(images.flatten(1)))
        return torch.stack(logits)


def smooth_network(seed: int = 0) -> Branching:
    torch.manual_seed(seed)
    return Branching().double()


def small_msdnet(seed: int = 0) -> MultiExitNetwork:
    torch.manual_seed(seed)
    return build("msdnet-digits", CLASSES)


def batch(size: int, side: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, side, side, generator=generator, dtype=dtype)
    return images, torch.randint(CLASSES, (size,), generator=generator)


def functional(network: nn.Module, **arguments) -> Forward:
    return forward_of(network, lambda images: images, **arguments)


def flattened(network: nn.Module) -> Tensor:
    """All parameters in one vector."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])
