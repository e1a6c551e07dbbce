"""Folded batch norm computes what it did before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hdkd_dist.inference.torch_stages import fold_batch_norm, fold_where_equal
from hdkd_dist.models import MultiExitNetwork, build


def trained(network: nn.Module) -> nn.Module:
    """Give batch norm other values than those it starts with."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                value.data = torch.rand(value.shape, generator=generator) + 0.5
    return network.double().eval()


@pytest.mark.parametrize("preset", ["msdnet-digits", "msdnet-cifar-tiny", "resnet-digits"])
@torch.no_grad()
def test_folding_is_exact_to_rounding_and_leaves_none(preset):
    network = trained(build(preset))
    size = 32 if "cifar" in preset else 16
    images = torch.randn(3, 3, size, size, dtype=torch.float64)
    before = network(images)
    folded = fold_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(images), before, rtol=1e-11, atol=1e-11)
    assert torch.equal(network(images), before)  # it was a copy


class Skipping(nn.Sequential):
    """A row that is none: the first module's output is used twice."""

    def forward(self, images):
        first = self[0](images)
        return self[1](first) + first


class One(nn.Module):
    def __init__(self, row):
        super().__init__()
        self.row = row

    def forward(self, state):
        return [self.row(state[0])]


@torch.no_grad()
def test_batch_norm_elsewhere_stays():
    convolution = nn.Conv2d(3, 4, 3, groups=1)
    rows = [
        Skipping(convolution, nn.BatchNorm2d(4)),
        nn.Sequential(convolution, nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.BatchNorm2d(3), convolution),
        nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4)),
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for row in rows:
        network = trained(MultiExitNetwork([One(row)], [head]))
        folded = fold_batch_norm(network)
        assert torch.equal(folded(images), network(images))
        assert any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


class ByHand(nn.Module):
    """Uses the modules of a row one by one, and the first one's output twice."""

    num_exits = 1

    def __init__(self):
        super().__init__()
        self.row = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, images):
        first = self.row[0](images)
        return self.head(self.row[1](first) + first)[None]


@torch.no_grad()
def test_a_row_that_is_used_in_another_way_is_not_folded():
    images = torch.randn(5, 3, 16, 16, dtype=torch.float64)
    for network, folds in ((trained(ByHand()), False), (trained(build("resnet-digits")), True)):
        before, folded = network(images), fold_where_equal(network, 16)

        torch.testing.assert_close(folded(images), before)
        kept = any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        assert kept is not folds
