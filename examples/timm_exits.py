"""Exits on a backbone of timm, with its pretrained weights where timm can find them.

deepspeed hdkd_dist/train.py --ds_config ds_configs/imagenet.json --data DIR \
    --set hdkd.model.factory=examples.timm_exits:build --set hdkd.model.input_size=224 \
    --set 'hdkd.model.kwargs={"backbone": "resnet18", "pretrained": true}'

Takes the backbones whose features timm gives as a chain of modules: ResNet, RegNet, ConvNeXt and
their relatives. ``pip install timm`` first.
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

    chain = timm.create_model(backbone, pretrained=pretrained, features_only=True)
    if not isinstance(chain, nn.ModuleDict):
        raise ValueError(f"timm's {backbone} is no chain of modules: take another, or name yours")
    info = chain.feature_info
    names = [name.replace(".", "_") for name in info.module_name()]
    widths = dict(list(zip(names, info.channels(), strict=True))[-exits:])
    stages, classifiers, parts = [], [], []
    for name, module in chain.items():
        parts.append(module)
        if name in widths:
            pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            classifiers.append(nn.Sequential(*pool, nn.Linear(widths[name], num_classes)))
            stages.append(Stage(*parts))
            parts = []
    return MultiExitNetwork(stages, classifiers)
