"""He fan-out for convolutions, a neutral batch norm, linear layers without an offset."""

import math

import pytest
import torch
from torch import nn

from hdkd_dist.models import build, initialise


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
    large = [conv.weight for conv in of_type(network, nn.Conv2d) if conv.weight.numel() > 20_000]
    assert len(large) > 5
    for weight in large:
        out_channels, _, height, width = weight.shape
        expected = math.sqrt(2 / (out_channels * height * width))
        assert weight.std().item() == pytest.approx(expected, rel=0.03)
        assert abs(weight.mean().item()) < 0.03 * expected


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
