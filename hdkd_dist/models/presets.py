"""The networks that have a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from hdkd_dist.models.factory import FactorySpec, call_factory, import_factory, require_known
from hdkd_dist.models.msdnet import MSDNetSpec, msdnet
from hdkd_dist.models.network import initialise
from hdkd_dist.models.resnet import ResNetSpec, resnet
from hdkd_dist.models.vit import ViTSpec, initialise_vit, vit

Spec = MSDNetSpec | ResNetSpec | ViTSpec | FactorySpec

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
    # Vision transformers with exits; that for 32 px is as wide and deep as DeiT-Ti's first nine.
    "vit-digits": ViTSpec(
        blocks=(1, 1, 1),
        width=48,
        heads=3,
        hidden=96,
        patch=4,
        input_size=16,
        num_classes=10,
    ),
    "vit-cifar": ViTSpec(
        blocks=(3, 3, 3),
        width=192,
        heads=3,
        hidden=768,
        patch=4,
        input_size=32,
        num_classes=100,
    ),
}


Family = tuple[Callable[[Any], nn.Module], Callable[[nn.Module], None]]
FAMILIES: dict[type, Family] = {  # specification → how to build a network, how to initialise it
    MSDNetSpec: (msdnet, initialise),
    ResNetSpec: (resnet, initialise),
    ViTSpec: (vit, initialise_vit),
}


def build(preset: str, num_classes: int | None = None, **overrides: object) -> nn.Module:
    """Build and initialise the network of ``preset``.

    Args:
        preset: a key of ``PRESETS``, registered ones included.
        num_classes: C; default the preset's own.
        overrides: other values for fields of the preset's specification, or keyword arguments of
            a registered factory; lists serve as tuples in the former.

    Raises:
        ValueError: in one line, for an unknown name or for values that give no network.
    """
    return build_from(resolve(preset, overrides), num_classes)


def build_from(spec: Spec, num_classes: int | None = None) -> nn.Module:
    """Build and initialise the network of a specification.

    Args:
        spec: from :func:`resolve` or :func:`spec_of`.
        num_classes: C; default the specification's own.

    Raises:
        ValueError: in one line, for values that give no network.
    """
    if num_classes is not None:
        spec = dataclasses.replace(spec, num_classes=num_classes)
    if isinstance(spec, FactorySpec):
        return call_factory(spec)
    make, set_weights = FAMILIES[type(spec)]
    network = make(spec)
    set_weights(network)
    return network


def resolve(preset: str, overrides: Mapping[str, object]) -> Spec:
    """Return the specification of ``preset`` with ``overrides``; raises as ``build`` does."""
    require_known(preset, PRESETS, "preset")
    spec = PRESETS[preset]
    if isinstance(spec, FactorySpec):
        return dataclasses.replace(spec, kwargs={**spec.kwargs, **overrides})
    fields = [field.name for field in dataclasses.fields(spec)]
    for name in overrides:
        require_known(name, fields, f"setting of {preset}")
    values: dict[str, Any] = {name: _as_tuple(value) for name, value in overrides.items()}
    return dataclasses.replace(spec, **values)


def register(
    name: str, factory: Callable[..., nn.Module], *, input_size: int, num_classes: int = 10
) -> None:
    """Give a network of one's own a name that stands beside the presets.

    Args:
        name: not yet a preset's.
        factory: called as ``factory(num_classes=C, **overrides)``; returns a network with exits,
            see :class:`hdkd_dist.models.network.MultiExit`.
        input_size: the side of its images, in pixels.
        num_classes: C where nobody says otherwise.

    Raises:
        ValueError: if the name is taken.
    """
    if name in PRESETS:
        raise ValueError(f"there is a preset {name!r} already: choose another name")
    PRESETS[name] = FactorySpec(name, factory, {}, input_size, num_classes)


def spec_of(section: Mapping[str, Any]) -> Spec:
    """Return the specification that the section "hdkd.model" of a configuration asks for.

    Args:
        section: ``preset`` and ``overrides``, or ``factory``, ``kwargs`` and ``input_size``;
            other keys are left alone.

    Raises:
        ValueError: in one line, for both or neither, or what gives no network.
    """
    preset, factory = section.get("preset"), section.get("factory")
    kwargs, size = section.get("kwargs") or {}, section.get("input_size")
    if (preset is None) == (factory is None):
        raise ValueError(
            'give either "preset", the name of a network, or "factory", your own as '
            '"package.module:callable"'
        )
    overrides = section.get("overrides") or {}
    if preset is not None:
        if kwargs or size is not None:
            raise ValueError(
                '"kwargs" and "input_size" belong to a "factory": of a preset set "overrides"'
            )
        return resolve(preset, overrides)
    if overrides:
        raise ValueError('"overrides" belong to a "preset": of a factory set "kwargs"')
    if size is None:
        raise ValueError(f'the factory {factory} needs "input_size", the side of its images')
    if "num_classes" in kwargs:
        raise ValueError('"kwargs" must not hold num_classes: the data set has its classes')
    path: str = section["factory"]
    return FactorySpec(path, import_factory(path), kwargs, size)


def network_name(section: Mapping[str, Any]) -> str:
    """Name the network of a section "hdkd.model" for titles and messages."""
    return section.get("preset") or section["factory"]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
