"""The derivative rules against torch's own forward mode, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from functional_call import call
from torch import nn
from torch.func import jvp
from torch.nn import functional

from hdkd_dist.method.forward_mode import pushforward
from hdkd_dist.method.tangent_rules import Statistics, moved_in_one
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


def test_torchs_own_rules_are_loaded_before_any_reader_starts():
    """Else the first pushforward parses sources beside a reader's compiler: see the module."""
    program = (
        "import sys, hdkd_dist.method.forward_mode; "
        "print('torch._decomp.decompositions_for_jvp' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"


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


@pytest.mark.parametrize(("dtype", "precise"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_batch_norms_tangent_as_a_gpu_computes_it(monkeypatch, dtype, precise):
    """The two kernels, which torch has on GPUs alone, are written out from their definition."""

    def channels(values):
        return values.view(1, -1, 1, 1)

    def reduce(dy, x, mean, r, w, *_):
        return dy.sum((0, 2, 3)), (dy * (x - channels(mean))).sum((0, 2, 3)), None, None

    def element(dy, x, mean, r, w, s, p, count):
        inner = channels(s) + (x - channels(mean)) * channels(r * r * p)
        return channels(w * r) * (dy - inner / count.sum())

    monkeypatch.setattr(torch, "batch_norm_backward_reduce", reduce, raising=False)
    monkeypatch.setattr(torch, "batch_norm_backward_elemt", element, raising=False)
    torch.manual_seed(0)
    x, dx = torch.randn(2, 6, 8, 5, 5, dtype=torch.float64)
    w, dw, b, db = torch.randn(4, 8, dtype=torch.float64)
    w[2], w[3] = 0, 1e-6

    def norm(x, w, b):
        return functional.batch_norm(x, None, None, w, b, training=True)

    _, expected = jvp(norm, (x, w, b), (dx, dw, db))
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    known = Statistics(mean.to(dtype), (variance + 1e-5).rsqrt().to(dtype))
    found = moved_in_one(*(t.to(dtype) for t in (x, dx, w, dw, db)), known)
    torch.testing.assert_close(found.double(), expected, rtol=precise, atol=precise)
