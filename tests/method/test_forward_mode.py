"""The derivative rules against torch's own forward mode, and what a recorded pass may be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import jvp

from hdkd_dist.method.forward_mode import WORTH_KEEPING, Output, Recording, pushforward
from hdkd_dist.method.functional import call
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


def function_of(network, images):
    """From parameters, by name, to logits; buffers stay."""

    def logits(theta):
        buffers = {name: value.clone() for name, value in network.named_buffers()}
        return call(network, {**theta, **buffers}, images)

    return logits


def parameters_and_direction(network):
    theta = {name: value.detach() for name, value in network.named_parameters()}
    return theta, {name: torch.randn_like(value) for name, value in theta.items()}


def recorded(network, images):
    with torch.no_grad(), Recording() as record:
        network(images)
    return record


def repeated(record, network, images):
    """Value and tangent in a forward-mode pass that repeats the recorded one."""
    function, (theta, v) = function_of(network, images), parameters_and_direction(network)

    def logits(theta):
        with record.repeated():
            return function(theta)

    return pushforward(logits, theta, v)


@pytest.mark.parametrize("name", ["mixed", "msdnet", "resnet"])
def test_rules_equal_torchs_forward_mode(name):
    network, side = networks()[name]
    network = network.double()
    images = torch.randn(6, 3, side, side, dtype=torch.float64)
    theta, v = parameters_and_direction(network)
    logits = function_of(network, images)
    value, expected = jvp(logits, (theta,), (v,))
    found, tangent = pushforward(logits, theta, v)
    torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tangent, expected, rtol=1e-9, atol=1e-9)


def test_recorded_outputs_are_used():
    network, side = networks()["msdnet"]
    images = torch.randn(4, 3, side, side)
    record = recorded(network, images)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(record.outputs) == len(convolutions)
    costs = [m.in_channels * m.kernel_size[0] ** 2 for m in convolutions]
    kept = [output for output in record.outputs if output is not None]
    assert len(kept) == sum(cost >= WORTH_KEEPING for cost in costs) > 0
    right, _ = repeated(record, network, images)
    record = recorded(network, images)
    record.outputs = [o and Output(torch.randn_like(o.value), 0) for o in record.outputs]
    wrong, _ = repeated(record, network, images)
    assert not torch.allclose(wrong, right, atol=1e-2)


def test_outputs_that_were_written_over_are_not_used():
    network = nn.Conv2d(16, 4, 3)
    with torch.no_grad(), Recording() as record:
        network(torch.zeros(2, 16, 4, 4)).add_(7)
        network(torch.zeros(2, 16, 4, 4))
    assert [output.unchanged() is None for output in record.outputs] == [True, False]


class Counted(nn.Module):
    """Runs its convolution as often as ``count`` says."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(16, 16, 3, padding=1)
        self.count = 2

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.count):
            x = self.convolution(x)
        return x


@pytest.mark.parametrize(
    ("count", "size", "dtype", "fault"),
    [
        (1, 4, torch.float32, "1 convolutions, not 2 as recorded in training"),
        (3, 4, torch.float32, "more convolutions than the 2 recorded in training"),
        (2, 3, torch.float32, r"gives \[3, 16, 5, 5\] in .*, not \[4, 16, 5, 5\]"),
        (2, 4, torch.float64, r"in torch.float64, not \[4, 16, 5, 5\] in torch.float32"),
    ],
)
def test_another_pass_than_the_recorded_one_is_refused(count, size, dtype, fault):
    network = Counted()
    images = torch.randn(4, 16, 5, 5)
    record = recorded(network, images)
    network.count = count
    with pytest.raises(ValueError, match=fault):
        repeated(record, network.to(dtype), images[:size].to(dtype))


def test_random_numbers_go_on_as_if_nothing_had_been_repeated():
    network, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5)), torch.randn(2, 3, 5, 5)
    record = recorded(network, images)
    before = torch.get_rng_state()
    repeated_twice = [repeated_value(record, network, images) for _ in range(2)]
    assert torch.equal(*repeated_twice)
    assert torch.equal(torch.get_rng_state(), before)


def repeated_value(record, network, images):
    with record.repeated():
        return network(images)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_lstm_in_single_precision():
    """There torch takes oneDNN's, which has no derivative in forward mode."""
    torch.manual_seed(0)
    network, sequence = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    theta, v = parameters_and_direction(network)
    _, tangent = pushforward(lambda theta: call(network, theta, sequence)[0], theta, v)
    network.double()
    theta, v = ({n: t.double() for n, t in tensors.items()} for tensors in (theta, v))
    _, expected = jvp(lambda theta: call(network, theta, sequence.double())[0], (theta,), (v,))
    torch.testing.assert_close(tangent.double(), expected, rtol=1e-4, atol=1e-5)


def test_output_that_does_not_move_is_refused():
    network, images = nn.Linear(3, 2), torch.randn(4, 3)
    theta, v = parameters_and_direction(network)
    with pytest.raises(ValueError, match="depends on none of the parameters that learn"):
        pushforward(lambda theta: call(network, theta, images).detach(), theta, v)
    frozen = torch.no_grad()(function_of(network, images))
    with pytest.raises(ValueError, match=r"torch.no_grad\(\) around its forward pass"):
        pushforward(frozen, theta, v)


def test_nothing_is_left_behind():
    """Neither in torch's switches nor, where parameters require a gradient, a graph."""
    network, images = nn.Linear(3, 2), torch.randn(4, 3)
    theta = dict(network.named_parameters())
    v = {name: torch.ones_like(value) for name, value in theta.items()}
    with torch.no_grad():
        logits, tangent = pushforward(
            lambda t: call(network, t, images), {"bias": theta["bias"]}, v
        )
        assert not torch.is_grad_enabled()
    assert not logits.requires_grad
    assert torch.equal(tangent, torch.ones(4, 2))
    assert torch.backends.cuda.flash_sdp_enabled()
    assert not nn.modules.module._global_forward_pre_hooks
