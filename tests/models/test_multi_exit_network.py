"""The interface that training and inference rely on, for both families."""

import pytest
import torch
from torch import nn

from hdkd_dist.models import PRESETS, MultiExitNetwork, build

SMALL = ["msdnet-digits", "resnet-digits", "vit-digits"]


@pytest.fixture(params=SMALL)
def network(request):
    torch.manual_seed(0)
    return build(request.param, num_classes=7)


def test_forward_stacks_the_exits(network):
    logits = network(torch.randn(4, 3, 16, 16))

    assert logits.shape == (network.num_exits, 4, 7)
    assert network.num_exits == 3


def test_stages_in_a_row_give_the_same_logits_as_forward(network):
    network.eval()
    state = [torch.randn(4, 3, 16, 16)]
    with torch.no_grad():
        expected = network(state[0])
        for k in range(network.num_exits):
            before = [feature_map.clone() for feature_map in state]
            next_state, logits = network.run_stage(k, state)

            assert torch.equal(logits, expected[k])
            assert len(state) == len(before)
            assert all(map(torch.equal, state, before)), "a stage wrote into its input"
            state = next_state


@pytest.mark.parametrize(
    "preset", [*SMALL, "msdnet-cifar-4", "msdnet-imagenet-4", "resnet-imagenet-4"]
)
def test_every_parameter_of_a_preset_learns_on_the_meta_device(preset):
    """An unused parameter would break a gradient over all of them; a CPU tensor would raise."""
    spec = PRESETS[preset]
    with torch.device("meta"):
        network = build(preset)
        images = torch.empty(2, 3, spec.input_size, spec.input_size)

    logits = network(images, gradient_equilibrium=True)
    logits.sum().backward()

    assert logits.shape == (network.num_exits, 2, spec.num_classes)
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("stages", "classifiers"), [(0, 0), (2, 1)])
def test_stages_and_classifiers_must_pair_up(stages, classifiers):
    with pytest.raises(ValueError, match=f"not {stages} stages and {classifiers} classifiers"):
        MultiExitNetwork([nn.Identity()] * stages, [nn.Identity()] * classifiers)
