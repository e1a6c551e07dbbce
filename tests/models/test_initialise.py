"""He fan-out for convolutions, a neutral batch norm, linear layers without an offset."""

import math

import pytest
import torch
from torch import nn

from hdkd_dist.models import build, initialise
from hdkd_dist.models.layers import MergedConv2d


@pytest.fixture(scope="module")
def network():
    """Initialised anew from weights that are all wrong."""
    torch.manual_seed(0)
    network = build("msdnet-cifar-4")
    for name, parameter in network.named_parameters():
        if not (parameter.ndim == 2 and name.endswith("weight")):
            nn.init.constant_(parameter, 7.0)
    initialise(network)
    return network


def of_type(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def test_convolutions_have_variance_two_over_fan_out(network):
    single = [conv for conv in of_type(network, nn.Conv2d) if not isinstance(conv, MergedConv2d)]
    large = [conv.weight for conv in single if conv.weight.numel() > 20_000]
    assert len(large) > 5
    for weight in large:
        out_channels, _, height, width = weight.shape
        expected = math.sqrt(2 / (out_channels * height * width))
        assert weight.std().item() == pytest.approx(expected, rel=0.03)
        assert abs(weight.mean().item()) < 0.03 * expected


def test_merged_convolutions_have_the_fan_out_of_their_parts():
    torch.manual_seed(0)
    convolution = MergedConv2d(400, [20, 60])
    initialise(convolution)
    for weight, out_channels in zip(convolution.weight.split([20, 60]), [20, 60], strict=True):
        assert weight.std().item() == pytest.approx(math.sqrt(2 / out_channels), rel=0.03)


def test_batch_norm_is_neutral_and_linear_layers_have_no_offset(network):
    for norm in of_type(network, nn.BatchNorm2d):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
    for linear in of_type(network, nn.Linear):
        assert (linear.bias == 0).all()
        assert linear.weight.std() > 0


def test_build_initialises():
    torch.manual_seed(0)
    for linear in of_type(build("resnet-digits"), nn.Linear):
        assert (linear.bias == 0).all()
