"""The network as a function of its parameters: what it leaves in the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hdkd_dist.method.functional import call, evaluation_of


def tied_network():
    """One layer at two places, and another layer with its weight."""
    torch.manual_seed(0)
    one, other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    other.weight = one.weight
    norm = nn.BatchNorm1d(2)
    return nn.Sequential(one, norm, other, norm, one)


def test_tied_tensors_are_replaced_together_and_come_back():
    network, images = tied_network().eval(), torch.randn(3, 2)
    before = dict(network.named_parameters(remove_duplicate=False))
    weight = torch.randn(2, 2)
    found = call(network, {"0.weight": weight, "1.running_mean": torch.ones(2)}, images)
    x = images
    for _ in range(2):
        x = (x @ weight.T - 1) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(found, x @ weight.T)
    after = dict(network.named_parameters(remove_duplicate=False))
    assert all(after[name] is before[name] for name in before)
    assert torch.equal(network[1].running_mean, torch.zeros(2))


def test_unknown_names_are_refused():
    with pytest.raises(KeyError, match=r"9\.weight"):
        call(tied_network(), {"9.weight": torch.ones(2, 2)}, torch.randn(3, 2))


def test_evaluation_leaves_the_buffers_of_a_module_at_two_places():
    network = tied_network()
    buffers = {name: buffer + 1 for name, buffer in network.named_buffers()}
    evaluation_of(network, buffers, lambda images: images)(torch.randn(3, 2))
    assert torch.equal(network[1].running_mean, torch.zeros(2))
    assert int(network[1].num_batches_tracked) == 0
