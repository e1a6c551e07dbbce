"""The stages in torch, with batch norm folded into the convolutions before it."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hdkd_dist.files.tensors import read_tensors
from hdkd_dist.inference.exported import AGAIN, DESCRIPTION, WEIGHTS, Exported
from hdkd_dist.inference.runtime import Compaction
from hdkd_dist.models import MultiExit, build_from, spec_of, staged
from hdkd_dist.models.layers import FasterFormat

FOLDING_TOLERANCE = 1e-3  # of the largest logit
Network = TypeVar("Network", bound=nn.Module)


class TorchStages:
    """A network's stages in torch, on the device where the network is.

    Args:
        network: with exits, in evaluation mode.
    """

    at_a_time: int | None = None

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


def load_network(exported: Exported) -> nn.Module:
    """Build an exported network with its weights: in evaluation mode, on the CPU, not folded.

    A factory's is built by importing the code that the description names.

    Raises:
        ValueError: for weights that are missing, damaged, not finite or of another network, or a
            factory that cannot be imported.
    """
    weights = exported.folder / WEIGHTS
    exported.require_own(weights)
    network = _build(exported, weights.stat().st_size)
    try:
        values = read_tensors(weights)
        network.load_state_dict(values)
    except (SafetensorError, RuntimeError, OSError) as error:
        short = textwrap.shorten(str(error), 200, placeholder=" …")  # it names every tensor
        raise ValueError(
            f"{DESCRIPTION} does not match the weights in {weights} ({short}): {AGAIN}"
        ) from None
    exits = cast(MultiExit, network).num_exits
    if exits != len(exported.exits):
        raise ValueError(
            f"{DESCRIPTION} lists {len(exported.exits)} exits, the network has {exits}: {AGAIN}"
        )
    for name, value in values.items():
        if not value.isfinite().all():
            raise ValueError(f"{weights} holds numbers that are not finite ({name}): train again")
    return network.eval()


def _build(exported: Exported, size: int) -> nn.Module:
    """Build the network that a description names, with random weights.

    Args:
        exported: names it.
        size: of the file of its weights, in bytes.
    """
    remedy = AGAIN
    if "factory" in exported.model:
        remedy = (
            'start where its file lies, name it with --factory "package.module:callable", or use '
            "the ONNX runtime, which needs none"
        )
    try:
        _require_modest(exported.model.get("overrides", {}), size)
        return build_from(spec_of(exported.model), len(exported.classes))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"{exported.folder / DESCRIPTION} describes no network ({error}): {remedy}"
        ) from None


def _require_modest(overrides: Mapping[str, Any], size: int) -> None:
    """Refuse a specification that would fill the memory before its weights are compared."""
    for name, value in overrides.items():
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int | float) and number > size for number in numbers):
            raise ValueError(f"{name} {value} is more than its weights hold")


@torch.no_grad()
def fold_where_equal(network: Network, image_size: int) -> Network:
    """Give a copy in which batch norm is folded, if it gives the same logits for random images.

    A network of the user's own may use a row of modules in another way than by calling it; then
    the copy is not folded.

    Args:
        network: with exits, in evaluation mode.
        image_size: side of the images in pixels.
    """
    some = next(network.parameters())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, image_size, image_size, generator=generator).to(some)
    folded = fold_batch_norm(network)
    expected, found = network(images), folded(images)
    scale = max(1.0, float(expected.abs().max()))
    equal = bool((found - expected).abs().max() <= FOLDING_TOLERANCE * scale)
    return folded if equal else copy.deepcopy(network)


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
        if type(row) not in (nn.Sequential, FasterFormat):
            continue
        for place in range(len(row) - 1):
            first, second = row[place], row[place + 1]
            if isinstance(first, nn.Conv2d) and type(second) is nn.BatchNorm2d:
                row[place] = fuse_conv_bn_eval(first, second)
                row[place + 1] = nn.Identity()
    return folded
