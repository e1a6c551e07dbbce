"""What the forward-mode pass takes from a recorded pass, and what it refuses to take."""

from __future__ import annotations

import pytest
import torch
from test_forward_mode import function_of, parameters_and_direction
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional

from hdkd_dist.method.forward_mode import pushforward
from hdkd_dist.method.recording import KEEPING, WORTH_KEEPING, Output, Recording
from hdkd_dist.method.tangent_rules import cat
from hdkd_dist.models import build


def recorded(network, images):
    with Recording() as record:
        network(images).sum().backward()
    return record


def repeated(record, network, images):
    """Value and tangent in a forward-mode pass that repeats the recorded one."""
    function, (theta, v) = function_of(network, images), parameters_and_direction(network)

    def logits(theta):
        with record.repeated():
            return function(theta)

    return pushforward(logits, theta, v)


def test_recorded_outputs_are_used():
    network, images = build("msdnet-digits", 5), torch.randn(4, 3, 16, 16)
    record = recorded(network, images)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    outputs = record.found[torch.conv2d]
    assert len(outputs) == len(convolutions)
    costs = [m.in_channels * m.kernel_size[0] ** 2 for m in convolutions]
    kept = [output for output in outputs if output is not None]
    assert len(kept) == sum(cost >= WORTH_KEEPING for cost in costs) > 0
    right, _ = repeated(record, network, images)
    record.found[torch.conv2d] = [o and Output(torch.randn_like(o.value), 0) for o in outputs]
    wrong, _ = repeated(record, network, images)
    assert not torch.allclose(wrong, right, atol=1e-2)


def test_concatenations_are_used_where_they_are_kept(monkeypatch):
    """As on a GPU: to the bit what computing them again gives, and really taken over."""
    network, images = build("msdnet-digits", 5), torch.randn(4, 3, 16, 16)
    record = recorded(network, images)
    torch.manual_seed(0)
    expected = repeated(record, network, images)
    monkeypatch.setitem(KEEPING, torch.cat, lambda y, *_, **__: Output(y.detach(), y._version))
    record = recorded(network, images)
    torch.manual_seed(0)
    found = repeated(record, network, images)
    assert all(map(torch.equal, found, expected))
    outputs = record.found[torch.cat]
    assert len(outputs) == 5
    assert all(output.unchanged() is not None for output in outputs)
    record.found[torch.cat] = [Output(torch.randn_like(o.value), 0) for o in outputs]
    torch.manual_seed(0)
    _, wrong = repeated(record, network, images)
    assert not torch.allclose(wrong, found[1], atol=1e-2)


@pytest.mark.parametrize("moving", [(0,), (1,), (0, 1)])
def test_what_is_concatenated_may_move_in_part(moving):
    parts = [torch.randn(2, channels, 3, 3) for channels in (2, 3)]
    directions = [torch.randn_like(part) for part in parts]
    known = torch.cat(parts, dim=1)
    with forward_ad.dual_level():
        duals = [
            forward_ad.make_dual(part, direction) if k in moving else part
            for k, (part, direction) in enumerate(zip(parts, directions, strict=True))
        ]
        expected = forward_ad.unpack_dual(torch.cat(duals, dim=1))
        for found in (cat(known, duals, 1), cat(known, duals, dim=1), cat(None, duals, dim=1)):
            assert all(map(torch.equal, forward_ad.unpack_dual(found), expected))
        with pytest.raises(ValueError, match=r"a concatenation that gives \[2, 5, 3, 3\] .* not"):
            cat(known[:1], duals, 1)
    assert cat(known, parts, 1) is not known  # nothing moves: as torch has it


def test_statistics_are_those_of_the_batch_alone():
    trained, fixed = nn.BatchNorm2d(4), nn.BatchNorm2d(4).eval()
    images = torch.randn(8, 4, 3, 3)
    with Recording() as record:
        fixed(trained(images)).sum().backward()
    (found, none) = record.found[functional.batch_norm]
    assert none is None
    variance, mean = torch.var_mean(images, (0, 2, 3), correction=0)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.inverse_std, (variance + trained.eps).rsqrt())


def test_outputs_that_were_written_over_are_not_used():
    network = nn.Conv2d(16, 4, 3)
    with torch.no_grad(), Recording() as record:
        network(torch.zeros(2, 16, 4, 4)).add_(7)
        network(torch.zeros(2, 16, 4, 4))
    outputs = record.found[torch.conv2d]
    assert [output.unchanged() is None for output in outputs] == [True, False]


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
