"""The moving average of the weights against its formula, and what is evaluated and saved of it."""

from __future__ import annotations

import pytest
import torch
from ranks_harness import on_ranks
from torch import nn

from hdkd_dist.training.weight_average import WeightAverage


class Tied(nn.Module):
    """A frozen layer, tied weights, batch norm, and a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("scale", torch.ones(()), persistent=False)


def moved(network, step):
    generator = torch.Generator().manual_seed(step)
    for value in [*network.parameters(), *network.buffers()]:
        if value.requires_grad or value.is_floating_point():
            value.data += torch.randn(value.shape, generator=generator)
    network.norm.num_batches_tracked += 1


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_it_follows_its_formula(decay):
    torch.manual_seed(0)
    network = Tied()
    average = WeightAverage(network, decay)
    names = ("first.weight", "norm.running_var")
    expected = {name: network.state_dict()[name].double().clone() for name in names}
    for step in range(1, 30):
        moved(network, step)
        average.update(network, step)
        d = min(decay, (1 + step) / (10 + step))
        for name, value in expected.items():
            expected[name] = d * value + (1 - d) * network.state_dict()[name].double()
    found = {**average.parameters, **average.buffers}

    assert not any("frozen" in name or "num_batches" in name for name in found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-5)


def saved_and_evaluated():
    """What a rank saves, and the means of what both ranks hold."""
    import torch.distributed as dist

    from hdkd_dist.distributed.ranks import rank
    from hdkd_dist.training.engine import evaluated_tensors, network_state

    torch.manual_seed(0)
    network = Tied()
    average = WeightAverage(network, 0.5)
    moved(network, 1)
    network.norm.running_mean += rank()  # each rank has seen other images
    average.update(network, 1)
    plain, state = network_state(network), network_state(network, average)
    tensors = evaluated_tensors(network, average)
    held = {**average.parameters, **average.buffers}
    means = average.buffers["norm.running_mean"].clone()
    dist.all_reduce(means)
    Tied().load_state_dict(state)  # every name, and no other
    return plain, state, tensors, held, means / 2, dict(network.named_parameters())


def test_the_average_is_saved_and_evaluated_with_statistics_of_all_ranks():
    for plain, state, tensors, held, means, parameters in on_ranks(2, saved_and_evaluated):
        assert torch.equal(plain["first.weight"], parameters["first.weight"])
        assert not torch.equal(state["first.weight"], parameters["first.weight"])
        for found in (state, tensors):
            assert torch.equal(found["first.weight"], held["first.weight"])
            assert torch.equal(found["frozen.weight"], parameters["frozen.weight"])
            torch.testing.assert_close(found["norm.running_mean"], means)
            assert found["norm.num_batches_tracked"] == 1
        assert torch.equal(state["second.weight"], state["first.weight"])
        assert "second.weight" not in tensors, "tied weights are one tensor"
        assert "scale" not in state, "it is not persistent"
        assert "scale" in tensors
