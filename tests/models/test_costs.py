"""Counting, against counts by hand."""

import torch
from torch import nn

from hdkd_dist.models import MultiExitNetwork, build, exit_costs


class OnMap(nn.Sequential):
    def forward(self, state):
        return [super().forward(state[-1])]


def small_network():
    first = OnMap(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    second = OnMap(nn.MaxPool2d(3, stride=2, padding=1), nn.ReLU())
    heads = [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)) for _ in range(2)
    ]
    return MultiExitNetwork([first, second], heads)


def test_counts_by_hand():
    costs = exit_costs(small_network(), input_size=8)
    first = 8 * 8 * 4 * (3 * 9) + 8 * 8 * 4
    first_head = 8 * 8 * 4 + 4 * 5
    second = 4 * 4 * 4 * 9 + 4 * 4 * 4
    second_head = 4 * 4 * 4 + 4 * 5

    assert costs.mmac == [
        (first + first_head) / 1e6,
        (first + first_head + second + second_head) / 1e6,
    ]
    convolution, norm, head = 4 * 27 + 4, 8, 25
    assert costs.params == [convolution + norm + head, convolution + norm + 2 * head]


def test_counting_leaves_the_network_as_it_was():
    network = build("msdnet-digits").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    identities = [id(p) for p in network.parameters()]
    exit_costs(network, input_size=16)

    assert network.training
    assert [id(p) for p in network.parameters()] == identities
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_maps_of_one_pixel_can_be_counted_while_training():
    """Batch norm refuses to train on one value per channel, which counting must not run into."""
    costs = exit_costs(small_network().train(), input_size=1)

    assert costs.mmac[0] == (4 * 27 + 4 + 4 + 4 * 5) / 1e6
