"""The derivative rules against torch's own forward mode and against double backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, jvp

from hdkd_dist.method.forward_mode import WORTH_KEEPING, Recording, Tangents
from hdkd_dist.models import build


class Mixed(nn.Module):
    """With and without bias, stride, affine batch norm, fixed statistics, and a map read twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.strided = nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)
        self.plain_norm = nn.BatchNorm2d(6, affine=False)
        self.frozen = nn.BatchNorm2d(6)
        self.frozen.training = False
        self.linear = nn.Linear(6, 5)

    def forward(self, images):
        features = torch.relu_(self.norm(self.first(images)))
        features = self.frozen(self.plain_norm(self.strided(features)))
        return self.linear(features.mean(dim=(2, 3)) + features.amax(dim=(2, 3)))


def networks():
    torch.manual_seed(0)
    return {
        "mixed": (Mixed(), 9),
        "msdnet": (build("msdnet-digits", 5), 16),
        "resnet": (build("resnet-digits", 5), 16),
    }


def tangents(network, images, direction, mode):
    theta = {name: value.detach() for name, value in network.named_parameters()}
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    with torch.no_grad(), forward_ad.dual_level(), mode:
        moving = {n: forward_ad.make_dual(value, direction[n]) for n, value in theta.items()}
        return forward_ad.unpack_dual(functional_call(network, ({**moving, **buffers}), (images,)))


@pytest.mark.parametrize("name", ["mixed", "msdnet", "resnet"])
def test_rules_equal_torchs_forward_mode(name):
    network, side = networks()[name]
    network = network.double()
    images = torch.randn(6, 3, side, side, dtype=torch.float64)
    theta = {name: value.detach() for name, value in network.named_parameters()}
    direction = {name: torch.randn_like(value) for name, value in theta.items()}

    def logits(theta):
        buffers = {name: value.clone() for name, value in network.named_buffers()}
        return functional_call(network, ({**theta, **buffers}), (images,))

    value, expected = jvp(logits, (theta,), (direction,))
    with torch.no_grad(), Recording() as record:
        network(images)
    for mode in (Tangents(), Tangents(record.outputs)):
        found = tangents(network, images, direction, mode)
        torch.testing.assert_close(found.primal, value, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found.tangent, expected, rtol=1e-9, atol=1e-9)


def test_recorded_outputs_are_used():
    network, side = networks()["msdnet"]
    images = torch.randn(4, 3, side, side)
    direction = {name: torch.randn_like(value) for name, value in network.named_parameters()}
    with torch.no_grad(), Recording() as record:
        network(images)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(record.outputs) == len(convolutions)
    costs = [m.in_channels * m.kernel_size[0] ** 2 for m in convolutions]
    kept = [output for output in record.outputs if output is not None]
    assert len(kept) == sum(cost >= WORTH_KEEPING for cost in costs) > 0
    others = [None if output is None else torch.randn_like(output) for output in record.outputs]
    right = tangents(network, images, direction, Tangents(record.outputs))
    wrong = tangents(network, images, direction, Tangents(others))
    assert not torch.allclose(wrong.primal, right.primal, atol=1e-2)


def test_without_tangents_nothing_changes():
    network, side = networks()["mixed"]
    images = torch.randn(4, 3, side, side)
    with Tangents([]):
        inside = network(images)
    assert torch.equal(inside, network(images))
