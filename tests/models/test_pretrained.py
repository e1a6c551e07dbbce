"""Weights from elsewhere: partial loading, and the public MSDNet's names against its layout."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from hdkd_dist.models import PRESETS, MSDNetSpec, build
from hdkd_dist.models.pretrained import msdnet_weights, public_weights, take_weights

# A network of the public PyTorch port's layout, written for this test: the module tree gives the
# same names, and the forward pass is the MSDNet paper's.


def unit(inputs, outputs, kernel=3, stride=1, bias=False):
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


class Net(nn.Module):
    def __init__(self, *modules):
        super().__init__()
        self.net = nn.Sequential(*modules)

    def forward(self, features):
        return self.net(features)


class PortFirstLayer(nn.Module):
    def __init__(self, spec):
        super().__init__()
        widths = [spec.channels * factor for factor in spec.scale_factors]
        if spec.stem == "imagenet":
            pool = nn.MaxPool2d(3, 2, 1)
            stem = nn.Sequential(*unit(3, widths[0], 7, 2, bias=True), pool)
        else:
            stem = Net(*unit(3, widths[0]))
        coarser = [Net(*unit(a, b, stride=2)) for a, b in pairwise(widths)]
        self.layers = nn.ModuleList([stem, *coarser])

    def forward(self, images):
        maps = [images]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        return maps[1:]


class PortMap(nn.Module):
    def __init__(self, width, factor, features, finer=None, stride=2):
        super().__init__()
        own = features if finer is None else features // 2
        inner = min(width * factor, factor * own)
        self.conv_normal = Net(*unit(width * factor, inner, 1), *unit(inner, own))
        if finer is not None:
            inner = min(width * finer, finer * (features - own))
            part = unit(inner, features - own, stride=2)
            self.conv_down = Net(*unit(width * finer, inner, 1), *part)

    def forward(self, finer, own):
        down = [] if finer is None else [self.conv_down(finer)]
        return torch.cat([own, *down, self.conv_normal(own)], dim=1)


class PortLayer(nn.Module):
    def __init__(self, factors, kept, width, growth):
        super().__init__()
        self.first = len(factors) - kept
        self.layers = nn.ModuleList(
            PortMap(width, factors[s], growth * factors[s], factors[s - 1] if s else None)
            for s in range(self.first, len(factors))
        )

    def forward(self, maps):
        finer = [None, *maps[:-1]]
        pairs = zip(finer[self.first :], maps[self.first :], strict=True)
        return [layer(*pair) for layer, pair in zip(self.layers, pairs, strict=True)]


class PortTransition(nn.Module):
    def __init__(self, factors, width, reduced):
        super().__init__()
        self.m = nn.ModuleList(Net(*unit(width * f, reduced * f, 1)) for f in factors)

    def forward(self, maps):
        return [module(own) for module, own in zip(self.m, maps, strict=True)]


class PortClassifier(nn.Module):
    def __init__(self, width, hidden, classes):
        super().__init__()
        hidden = hidden or width
        convolutions = Net(*unit(width, hidden, stride=2)), Net(*unit(hidden, hidden, stride=2))
        self.m = nn.Sequential(*convolutions, nn.AvgPool2d(2))
        self.linear = nn.Linear(hidden, classes)

    def forward(self, maps):
        return self.linear(self.m(maps[-1]).flatten(1))


class Port(nn.Module):
    def __init__(self, spec: MSDNetSpec):
        super().__init__()
        total, scales = sum(spec.layers_per_block), len(spec.scale_factors)
        interval = math.ceil(total / scales)
        self.blocks, self.classifier = nn.ModuleList(), nn.ModuleList()
        width, depth = spec.channels, 0
        for count in spec.layers_per_block:
            block = [] if depth else [PortFirstLayer(spec)]
            for _ in range(count):
                depth += 1
                present = scales - max(0, depth - 2) // interval
                kept = scales - (depth - 1) // interval
                factors = spec.scale_factors[-present:]
                block.append(PortLayer(factors, kept, width, spec.growth))
                width += spec.growth
                if kept < present:
                    block.append(PortTransition(factors[-kept:], width, width // 2))
                    width //= 2
            self.blocks.append(nn.Sequential(*block))
            inputs = width * spec.scale_factors[-1]
            self.classifier.append(
                PortClassifier(inputs, spec.classifier_channels, spec.num_classes)
            )

    def forward(self, images):
        state, logits = images, []
        for block, classifier in zip(self.blocks, self.classifier, strict=True):
            state = block(state)
            logits.append(classifier(state))
        return torch.stack(logits)


SMALL = {  # of each stem, with scales that end
    "msdnet-cifar-4": {"channels": 4, "growth": 4, "num_classes": 5},
    "msdnet-imagenet-4": {
        "layers_per_block": (2, 2, 2),
        "scale_factors": (1, 2, 4),
        "channels": 4,
        "growth": 4,
        "num_classes": 5,
        "input_size": 128,
    },
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("preset", SMALL)
def test_the_public_msdnet_gives_the_same_logits_under_our_names(preset, training):
    torch.manual_seed(0)
    ours = build(preset, **SMALL[preset]).double()
    spec = PRESETS[preset].__class__(**{**vars(PRESETS[preset]), **SMALL[preset]})
    port = Port(spec).double()
    for buffer in port.buffers():
        if buffer.is_floating_point():  # not the start's 0 and 1
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    saved = {f"module.{name}": value.clone() for name, value in port.state_dict().items()}

    taken = take_weights(ours, public_weights({"state_dict": saved, "epoch": 3}))

    assert (taken.reshaped, taken.missing, taken.unused) == ([], [], [])
    images = torch.randn(4, 3, spec.input_size, spec.input_size, dtype=torch.float64)
    with torch.no_grad():
        expected = port.train(training)(images)
        found = ours.train(training)(images)
    assert (found - expected).abs().max() / expected.abs().max() < 1e-14


def test_a_name_that_no_network_has_is_told():
    network = build("msdnet-digits", 5)
    weights = {**network.state_dict(), "optimizer.momentum": torch.zeros(3)}
    del weights["classifiers.0.linear.bias"]
    weights["classifiers.1.linear.weight"] = torch.zeros(7, 32)
    before = network.classifiers[1].linear.weight.clone()

    taken = take_weights(network, {f"module.{name}": value for name, value in weights.items()})

    assert taken.reshaped == ["classifiers.1.linear.weight"]
    assert taken.missing == ["classifiers.0.linear.bias"]
    assert taken.unused == ["optimizer.momentum"]
    assert len(taken.names) == len(network.state_dict()) - 2
    assert torch.equal(network.classifiers[1].linear.weight, before)
    lines = taken.table().splitlines()
    assert len(lines) == 4
    assert "classifiers.1.linear.weight" in lines[1]


def test_a_plain_state_dict_keeps_its_names():
    weights = build("vit-digits").state_dict()

    assert public_weights({"model": weights}).keys() == weights.keys()
    assert msdnet_weights({"classifier.0.linear.bias": torch.ones(2)}).keys() == {
        "classifiers.0.linear.bias"
    }
    with pytest.raises(ValueError, match="no tensors"):
        public_weights({"state_dict": {"epoch": 3}})
