"""The network as a function of its parameters: exact, and without a trace in the network."""

from __future__ import annotations

import copy

import pytest
import torch
from functional_call import call
from small_network import small_msdnet
from torch import nn

from hdkd_dist.method.algorithm import Copies
from hdkd_dist.method.forward_mode import pushforward
from hdkd_dist.method.functional import buffers_read, evaluation_of, forward_of, places_of

SIDE = 16


def images(count=8):
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_names_are_torchs_own():
    network = small_msdnet()
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    places = places_of(network)
    assert places.keys() == named.keys()
    assert all(places[name][0].tensor is tensor for name, tensor in named.items())


def test_pass_equals_the_networks_own_and_leaves_no_trace():
    network = small_msdnet().train()
    before = copy.deepcopy(network.state_dict())
    found = forward_of(network)(dict(network.named_parameters()), images())
    torch.testing.assert_close(dict(network.state_dict()), dict(before), rtol=0, atol=0)
    assert torch.equal(found, network(images()))


def test_frozen_batch_norm_still_reads_its_statistics():
    network = small_msdnet().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.eval()
    parameters = dict(network.named_parameters())
    assert torch.equal(forward_of(network)(parameters, images()), network(images()))
    assert len(buffers_read(network)) == len(dict(network.named_buffers()))
    assert not buffers_read(network.train())


def test_given_buffers_stand_in_for_the_networks_own():
    network = small_msdnet().train()
    given = {name: buffer + 1 for name, buffer in network.named_buffers()}
    kept = copy.deepcopy(given)
    forward_of(network)({**dict(network.named_parameters()), **given}, images())
    torch.testing.assert_close(given, kept, rtol=0, atol=0)


def test_unknown_name_is_refused_and_the_network_kept():
    network = small_msdnet()
    name, own = next(iter(network.named_parameters()))
    with pytest.raises(KeyError, match=r"no\.such"):
        call(network, {name: torch.zeros_like(own), "no.such": own}, images())
    assert dict(network.named_parameters())[name] is own


@pytest.mark.parametrize("bias", [False, True])
def test_weights_cast_together_give_the_same_bits(bias):
    """Values, gradients and tangents, as autocast gives them by converting one by one."""
    network = small_msdnet().train()
    if bias:
        network.stages[0].append(Biased(network))
    theta = dict(network.named_parameters())
    v = {name: torch.randn_like(value) for name, value in theta.items()}

    def results(together):
        forward = forward_of(network, autocast=torch.bfloat16, casts_together=together)
        logits = forward(theta, images())
        gradient = torch.autograd.grad(logits.float().square().sum(), list(theta.values()))
        moved = pushforward(lambda moving: forward(moving, images()), theta, v)
        return [logits, *gradient, *moved]

    apart, together = results(False), results(True)
    assert apart[0].dtype == torch.bfloat16
    assert all(one.dtype == two.dtype for one, two in zip(apart, together, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(apart, together, strict=True))


class Biased(nn.Module):
    """A convolution with a bias on the first stage's last map."""

    def __init__(self, network):
        super().__init__()
        width = network.stages[0]([images()])[-1].shape[1]
        self.convolution = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, state):
        return [*state[:-1], self.convolution(state[-1])]


def test_evaluation_under_autocast_gives_logits_in_float32():
    network = small_msdnet()
    buffers = dict(network.named_buffers())
    exact = evaluation_of(network, buffers)(images())
    half = evaluation_of(network, buffers, autocast=torch.bfloat16)(images())
    assert half.dtype == exact.dtype == torch.float32
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, rtol=0.1, atol=0.1)


def test_copies_are_taken_in_the_same_memory():
    copies = Copies()
    theta = {"weight": torch.ones(3, requires_grad=True)}
    first = copies.taken(theta)["weight"]
    with torch.no_grad():
        theta["weight"] += 1
    assert first.tolist() == [1, 1, 1]
    second = copies.taken(theta)["weight"]
    assert second.data_ptr() == first.data_ptr()
    assert second.tolist() == [2, 2, 2]
    assert not second.requires_grad


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


def test_evaluation_leaves_the_buffers_of_a_module_at_two_places():
    network = tied_network()
    buffers = {name: buffer + 1 for name, buffer in network.named_buffers()}
    evaluation_of(network, buffers, lambda images: images)(torch.randn(3, 2))
    assert torch.equal(network[1].running_mean, torch.zeros(2))
    assert int(network[1].num_batches_tracked) == 0
