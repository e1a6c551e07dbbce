"""What moves θ: the part of an engine that Algorithm 1 uses, and the smallest one that has it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Engine(Protocol):
    """What moves θ: the part of ``deepspeed.DeepSpeedEngine`` that a step uses."""

    module: nn.Module  # the network

    def __call__(self, images: Tensor, **arguments: Any) -> Tensor:
        """Run the network: images → logits [K, B, C]."""

    def backward(self, loss: Tensor) -> Any:
        """Accumulate the gradient of the mean of the micro-batches' losses."""

    def step(self) -> Any:
        """Count a micro-batch; after the last one all-reduce the gradient and move θ."""


class PlainEngine:
    """An engine for one process: a network, any optimiser of torch, nothing else.

    Args:
        network: on its device, in training mode.
        optimizer: of its parameters.
        accumulation: micro-batches in a step.
    """

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, accumulation: int = 1
    ) -> None:
        self.module = network
        self.optimizer = optimizer
        self.accumulation = accumulation
        self._micro_steps = 0

    def __call__(self, images: Tensor, **arguments: Any) -> Tensor:
        """Run the network: images → logits [K, B, C]."""
        return self.module(images, **arguments)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of the mean of the micro-batches' losses."""
        (loss / self.accumulation).backward()

    def step(self) -> None:
        """Count a micro-batch; after the last one move θ."""
        self._micro_steps += 1
        if self._micro_steps % self.accumulation == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()
