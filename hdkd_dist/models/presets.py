"""The networks that have a name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable

from hdkd_dist.models.msdnet import MSDNetSpec, msdnet
from hdkd_dist.models.network import MultiExitNetwork, initialise
from hdkd_dist.models.resnet import ResNetSpec, resnet

Spec = MSDNetSpec | ResNetSpec

_CIFAR = MSDNetSpec(
    layers_per_block=(1, 2, 3, 4, 5, 6, 7, 8),
    channels=16,
    growth=6,
    scale_factors=(1, 2, 4),
    input_size=32,
    stem="cifar",
    classifier_channels=128,
    num_classes=100,
)

_IMAGENET = MSDNetSpec(
    layers_per_block=(4,) * 5,
    channels=32,
    growth=16,
    scale_factors=(1, 2, 4, 4),
    input_size=224,
    stem="imagenet",
    classifier_channels=None,
    num_classes=1000,
)

PRESETS: dict[str, Spec] = {
    # The paper's networks. On CIFAR the number counts exits, on ImageNet layers per block.
    "msdnet-cifar-4": dataclasses.replace(_CIFAR, layers_per_block=(1, 2, 3, 4)),
    "msdnet-cifar-5": dataclasses.replace(_CIFAR, layers_per_block=(1, 2, 3, 4, 5)),
    "msdnet-cifar-6": dataclasses.replace(_CIFAR, layers_per_block=(1, 2, 3, 4, 5, 6)),
    "msdnet-cifar-8": _CIFAR,
    "msdnet-imagenet-4": _IMAGENET,
    "msdnet-imagenet-6": dataclasses.replace(_IMAGENET, layers_per_block=(6,) * 5),
    "msdnet-imagenet-7": dataclasses.replace(_IMAGENET, layers_per_block=(7,) * 5),
    # Small enough for a laptop.
    "msdnet-cifar-small": dataclasses.replace(
        _CIFAR, layers_per_block=(2, 1, 1, 1), channels=8, growth=4
    ),
    "msdnet-cifar-tiny": dataclasses.replace(
        _CIFAR,
        layers_per_block=(1, 1, 1, 1),
        growth=8,
        scale_factors=(1, 2),
        stem="halving",
    ),
    # The same with a wide gap between its exits: the first is small, the last block deep.
    "msdnet-cifar-gap": dataclasses.replace(
        _CIFAR,
        layers_per_block=(1, 1, 2, 3),
        growth=12,
        scale_factors=(1, 2),
        stem="halving",
        classifier_channels=64,
    ),
    "msdnet-digits": MSDNetSpec(
        layers_per_block=(1, 1, 1),
        channels=8,
        growth=4,
        scale_factors=(1, 2),
        input_size=16,
        stem="cifar",
        classifier_channels=32,
        num_classes=10,
    ),
    # The other family: a digits network, ResNet-20 and ResNet-18.
    "resnet-digits": ResNetSpec(
        blocks=(1, 1, 1),
        channels=(8, 16, 32),
        exits=(1, 2, 3),
        input_size=16,
        stem="cifar",
        classifier_channels=32,
        num_classes=10,
    ),
    "resnet-cifar-3": ResNetSpec(
        blocks=(3, 3, 3),
        channels=(16, 32, 64),
        exits=(3, 6, 9),
        input_size=32,
        stem="cifar",
        classifier_channels=64,
        num_classes=100,
    ),
    "resnet-imagenet-4": ResNetSpec(
        blocks=(2, 2, 2, 2),
        channels=(64, 128, 256, 512),
        exits=(2, 4, 6, 8),
        input_size=224,
        stem="imagenet",
        classifier_channels=None,
        num_classes=1000,
    ),
}


def build(preset: str, num_classes: int | None = None, **overrides: object) -> MultiExitNetwork:
    """Build and initialise the network of ``preset``.

    Args:
        preset: a key of ``PRESETS``.
        num_classes: C; default the preset's own.
        overrides: other values for fields of the preset's specification; lists serve as tuples.

    Raises:
        ValueError: in one line, for an unknown name or for values that give no network.
    """
    if num_classes is not None:
        overrides["num_classes"] = num_classes
    spec = resolve(preset, overrides)
    network = msdnet(spec) if isinstance(spec, MSDNetSpec) else resnet(spec)
    initialise(network)
    return network


def resolve(preset: str, overrides: dict[str, object]) -> Spec:
    """Return the specification of ``preset`` with ``overrides``; raises as ``build`` does."""
    _require_known(preset, PRESETS, "preset")
    fields = [field.name for field in dataclasses.fields(PRESETS[preset])]
    for name in overrides:
        _require_known(name, fields, f"setting of {preset}")
    values = {name: _as_tuple(value) for name, value in overrides.items()}
    return dataclasses.replace(PRESETS[preset], **values)


def _require_known(name: str, known: Iterable[str], what: str) -> None:
    known = list(known)
    if name not in known:
        (nearest,) = difflib.get_close_matches(str(name), known, n=1, cutoff=0)
        raise ValueError(f"unknown {what} {name!r}; the nearest known name is {nearest!r}")


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
