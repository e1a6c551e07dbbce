"""Exits on a backbone of timm, with its pretrained weights where timm can find them.

deepspeed hdkd_dist/train.py --ds_config ds_configs/imagenet.json --data DIR \
    --set hdkd.model.factory=examples.timm_exits:build --set hdkd.model.input_size=224 \
    --set 'hdkd.model.kwargs={"backbone": "resnet18", "pretrained": true}'

Takes the backbones whose features timm gives as a chain of modules: ResNet, RegNet, ConvNeXt,
EfficientNet, MobileNet and their relatives. ``pip install timm`` first.
"""

from torch import Tensor, nn

from hdkd_dist.models import MultiExitNetwork


class Stage(nn.Sequential):
    """A part of the chain, from state to state."""

    def forward(self, state: list[Tensor]) -> list[Tensor]:
        """Give a state of one map."""
        return [super().forward(state[-1])]


def build(
    num_classes: int, backbone: str = "resnet18", pretrained: bool = False, exits: int = 4
) -> MultiExitNetwork:
    """Cut ``backbone`` after each of its last ``exits`` feature maps and give each a head.

    Args:
        num_classes: C.
        backbone: a name of ``timm.list_models()``.
        pretrained: start from timm's weights, which it downloads once.
        exits: K, at most the number of the backbone's feature maps.

    Raises:
        ValueError: if timm is not installed, or the backbone is no chain of modules.
    """
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"this network needs timm ({error}): pip install timm") from None

    stages, classifiers, parts = [], [], []
    pieces = chain_of(timm.create_model(backbone, pretrained=pretrained, features_only=True))
    maps = [width for _, width in pieces if width is not None]
    for module, width in pieces:
        parts.append(module)
        if width is None:
            continue
        if len(maps) <= exits:
            pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            classifiers.append(nn.Sequential(*pool, nn.Linear(width, num_classes)))
            stages.append(Stage(*parts))
            parts = []
        maps.pop()
    return MultiExitNetwork(stages, classifiers)


def chain_of(features: nn.Module) -> list[tuple[nn.Module, int | None]]:
    """Give timm's features as modules in a row, each with the width of the map it ends, if any.

    Raises:
        ValueError: if they are none.
    """
    info = features.feature_info
    names = [name.replace(".", "_") for name in info.module_name()]
    widths = dict(zip(names, info.channels(), strict=True))
    if isinstance(features, nn.ModuleDict):
        named = dict(features.items())
    elif hasattr(features, "conv_stem") and isinstance(features.blocks, nn.Sequential):
        blocks = {f"blocks_{place}": block for place, block in features.blocks.named_children()}
        named = {"conv_stem": features.conv_stem, "bn1": features.bn1, **blocks}
    else:
        raise ValueError(f"timm's {type(features).__name__} is no chain: take another backbone")
    return [(module, widths.get(name)) for name, module in named.items()]
