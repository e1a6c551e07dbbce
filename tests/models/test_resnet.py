"""The structure of the residual networks."""

import pytest
import torch

from hdkd_dist.models import build
from hdkd_dist.models.resnet import BasicBlock


@pytest.mark.parametrize(
    ("preset", "side", "expected", "pooled"),
    [
        ("resnet-cifar-3", 32, [(16, 32), (32, 16), (64, 8)], 8),
        ("resnet-imagenet-4", 224, [(64, 56), (128, 28), (256, 14), (512, 7)], 7),
    ],
)
def test_states_are_one_map_and_all_heads_pool_the_same_side(preset, side, expected, pooled):
    with torch.device("meta"):
        network = build(preset)
        state = [torch.empty(2, 3, side, side)]
    shapes = []
    for k, classifier in enumerate(network.classifiers):
        state, _ = network.run_stage(k, state)
        (features,) = state
        shapes.append((features.shape[1], features.shape[2]))
        assert classifier.convolutions(features).shape[2] == pooled

    assert shapes == expected


def test_an_exit_may_stand_behind_any_block():
    network = build("resnet-digits", blocks=[2, 2, 2], exits=[1, 4, 5, 6])
    blocks = [sum(isinstance(m, BasicBlock) for m in stage) for stage in network.stages]

    assert blocks == [1, 3, 1, 1]
    assert network(torch.randn(2, 3, 16, 16)).shape == (4, 2, 10)


def test_a_block_carries_its_input_around():
    block = BasicBlock(4, 4, stride=1).eval()
    torch.nn.init.zeros_(block.residual[1][1].weight)
    features = torch.randn(2, 4, 8, 8)

    assert torch.equal(block(features), features.relu())


def test_resnet_18_has_its_known_number_of_parameters():
    """11,689,512 in the literature: all but the early heads."""
    network = build("resnet-imagenet-4")
    trunk = [*network.stages, network.classifiers[-1]]

    assert sum(p.numel() for module in trunk for p in module.parameters()) == 11_689_512
