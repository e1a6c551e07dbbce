"""Weights from elsewhere: what of them fits a network, and the names of public checkpoints.

The public PyTorch port of MSDNet (github.com/kalviny/MSDNet-PyTorch) computes the same function
under other names. It keeps the two bottlenecks of a map apart, which are one convolution here
(:class:`hdkd_dist.models.msdnet.Growth`), and gives the ImageNet stem's convolution a bias, which
batch norm takes away again: it moves into the running mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Taken:
    """What a network has taken of some weights, by tensors' names.

    Attributes:
        names: taken.
        reshaped: there under the same name, in another shape: left out.
        missing: of the network, not among the weights.
        unused: of the weights, not in the network.
    """

    names: list[str]
    reshaped: list[str]
    missing: list[str]
    unused: list[str]

    def table(self) -> str:
        """Lay the four out in lines: how many tensors, and the first few names."""
        rows = {
            "taken": self.names,
            "other shape, left out": self.reshaped,
            "not in the weights": self.missing,
            "not in the network": self.unused,
        }
        return "\n".join(
            f"  {what:<22}{len(names):>5}  {_first(names)}" for what, names in rows.items()
        )


def _first(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")


@torch.no_grad()
def take_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> Taken:
    """Copy into ``network`` every tensor that fits it in name and shape.

    Args:
        network: changed in place.
        weights: parameters and buffers by name; a leading ``module.`` makes no difference.
    """
    given = {name.removeprefix("module."): value for name, value in weights.items()}
    own = network.state_dict()
    shared = [name for name in own if name in given]
    names = [name for name in shared if own[name].shape == given[name].shape]
    for name in names:
        own[name].copy_(given[name])
    return Taken(
        names=names,
        reshaped=[name for name in shared if name not in names],
        missing=[name for name in own if name not in given],
        unused=[name for name in given if name not in own],
    )


def public_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take the tensors out of what a training script has saved, under the names used here.

    Args:
        content: a state_dict, or a mapping that has one under ``state_dict`` or ``model``.

    Raises:
        ValueError: if it holds no tensors.
    """
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {
        name.removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise ValueError("the file holds no tensors by name")
    return msdnet_weights(tensors) if is_public_msdnet(tensors) else tensors


def is_public_msdnet(weights: Mapping[str, Tensor]) -> bool:
    """Tell whether names are those of the public PyTorch port of MSDNet."""
    return "classifier.0.linear.weight" in weights and any(n.startswith("blocks.") for n in weights)


# In order: what stands in the port's names, what stands here in its place.
_RENAMED = (
    (r"^blocks\.", "stages."),
    (r"^classifier\.(\d+)\.m\.(\d+)\.net\.", r"classifiers.\1.convolutions.\2."),
    (r"^classifier\.(\d+)\.linear\.", r"classifiers.\1.linear."),
    (r"\.layers\.(\d+)\.net\.", r".scales.\1."),  # the first layer
    (r"\.layers\.0\.([01])\.", r".scales.0.0.\1."),  # the ImageNet stem in it
    (r"\.m\.(\d+)\.net\.", r".scales.\1."),  # a transition
)
_IN_LAYER = re.compile(r"^(.+\.layers)\.(\d+)\.conv_(normal|down)\.net\.(\d)\.(.+)$")
_STEM = "stages.0.0.scales.0.0"


def msdnet_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring weights of the public PyTorch port of MSDNet under the names used here.

    Args:
        weights: by the port's names, without a leading ``module.``.
    """
    renamed: dict[str, Tensor] = {}
    for_coarser: dict[str, Tensor] = {}  # the second part of joined bottlenecks, by their name
    for name, tensor in weights.items():
        found = _IN_LAYER.match(name)
        if not found:
            renamed[_renamed(name)] = tensor
            continue
        layer, number, kind, place, leaf = found.groups()
        # Where the finest scale ends, the port's first map is the second that comes in.
        scale = int(number) + (f"{layer}.0.conv_down.net.0.weight" in weights)
        grown = f"{_renamed(layer).removesuffix('.layers')}.scales"
        if kind == "down":  # belongs to the finer map that it reads
            scale -= 1
        inner = f"{grown}.{scale}.bottlenecks.{place}.{leaf}"
        outer = f"{grown}.{scale}.{'own' if kind == 'normal' else 'coarser'}"
        if int(place) >= 3:
            renamed[f"{outer}.{int(place) - 3}.{leaf}"] = tensor
        elif kind == "normal":
            renamed[inner] = tensor
        else:
            for_coarser[inner] = tensor
    for name, part in for_coarser.items():
        own = renamed.get(name)
        # The step counter of a batch norm is one number for both.
        renamed[name] = part if own is None or not part.ndim else torch.cat([own, part])
    bias = renamed.pop(f"{_STEM}.0.bias", None)
    if bias is not None:
        renamed[f"{_STEM}.1.running_mean"] = renamed[f"{_STEM}.1.running_mean"] - bias
    return renamed


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
