"""The stages in torch, with batch norm folded into the convolutions before it."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hdkd_dist.inference.exported import AGAIN, DESCRIPTION, WEIGHTS, Exported
from hdkd_dist.inference.runtime import Compaction
from hdkd_dist.models import MultiExitNetwork, build, staged
from hdkd_dist.models.layers import ChannelsLast

Network = TypeVar("Network", bound=nn.Module)


class TorchStages:
    """A network's stages in torch, on the device where the network is.

    Args:
        network: with exits, in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = staged(network)
        self.num_exits = self.network.num_exits
        parameter = next(network.parameters())
        self.device, self.precision = parameter.device, parameter.dtype

    def begin(self, images: np.ndarray) -> list[Tensor]:
        """Give the first state of images [B, 3, H, W]."""
        return [torch.from_numpy(images).to(self.device, self.precision)]

    @torch.inference_mode()
    def run(self, k: int, state: list[Tensor]) -> tuple[list[Tensor], np.ndarray]:
        """Run stage ``k`` (0-based): the next state, and logits [B, C]; waits for the device."""
        state, logits = self.network.run_stage(k, state)
        return state, logits.float().cpu().numpy()

    @torch.inference_mode()
    def keep(self, state: list[Tensor], compaction: Compaction) -> list[Tensor]:
        """Give the state of those who stay."""
        free, movers = (
            torch.from_numpy(rows).to(self.device) for rows in (compaction.free, compaction.movers)
        )
        return [Compaction(compaction.staying, free, movers).apply(rows) for rows in state]


def load_network(exported: Exported) -> MultiExitNetwork:
    """Build an exported network with its weights: in evaluation mode, on the CPU, not folded.

    Raises:
        ValueError: for weights that are missing, damaged, not finite or of another network.
    """
    weights = exported.folder / WEIGHTS
    exported.require_own(weights)
    try:
        _require_modest(exported.overrides, weights.stat().st_size)
        built = build(exported.preset, len(exported.classes), **exported.overrides)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{exported.folder / DESCRIPTION} describes no network ({error}): {AGAIN}"
        ) from None
    network = cast(MultiExitNetwork, built)  # as every preset that is exported
    try:
        values = load_file(weights)
        network.load_state_dict(values)
    except (SafetensorError, RuntimeError, OSError) as error:
        short = textwrap.shorten(str(error), 200, placeholder=" …")  # it names every tensor
        raise ValueError(
            f"{DESCRIPTION} does not match the weights in {weights} ({short}): {AGAIN}"
        ) from None
    if network.num_exits != len(exported.exits):
        raise ValueError(
            f"{DESCRIPTION} lists {len(exported.exits)} exits, the network has "
            f"{network.num_exits}: {AGAIN}"
        )
    for name, value in values.items():
        if not value.isfinite().all():
            raise ValueError(f"{weights} holds numbers that are not finite ({name}): train again")
    return network.eval()


def _require_modest(overrides: Mapping[str, Any], size: int) -> None:
    """Refuse a specification that would fill the memory before its weights are compared."""
    for name, value in overrides.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int | float) and number > size for number in numbers):
            raise ValueError(f"{name} {value} is more than its weights hold")


def fold_batch_norm(network: Network) -> Network:
    """Give a copy in which batch norm is part of the convolution before it.

    In evaluation mode both are linear maps, so that it computes the same up to rounding, and reads
    and writes each map once less. Only pairs in a plain row of modules are folded; batch norm
    anywhere else stays.

    Args:
        network: in evaluation mode.
    """
    folded = copy.deepcopy(network)
    rows = [module for module in folded.modules() if isinstance(module, nn.Sequential)]
    for row in rows:
        if type(row) not in (nn.Sequential, ChannelsLast):
            continue
        for place in range(len(row) - 1):
            first, second = row[place], row[place + 1]
            if isinstance(first, nn.Conv2d) and type(second) is nn.BatchNorm2d:
                row[place] = fuse_conv_bn_eval(first, second)
                row[place + 1] = nn.Identity()
    return folded
