"""The rebuilt MSDNet computes what the straightforward one does."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from hdkd_dist.models import build
from hdkd_dist.models.layers import MergedConv2d

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from plain_formulation import PlainDenseLayer, plain_formulation


def test_outputs_gradients_and_running_statistics_are_equal():
    """10 layers, 3 scales, of which two end on the way; float64, training mode."""
    torch.manual_seed(0)
    network = build("msdnet-cifar-4", 10, input_size=24).double()
    plain = plain_formulation(network)
    images = torch.randn(4, 3, 24, 24, dtype=torch.float64)
    weights = torch.randn(4, 4, 10, dtype=torch.float64)  # any scalar of the logits

    logits, plain_logits = network(images), plain(images)
    torch.testing.assert_close(logits, plain_logits, rtol=1e-12, atol=1e-12)

    (weights * logits).sum().backward()
    (weights * plain_logits).sum().backward()
    assert any(isinstance(module, PlainDenseLayer) for module in plain.modules())
    assert not any(isinstance(module, MergedConv2d) for module in plain.modules())
    assert norms(parameter.grad for parameter in network.parameters()) > 1
    for quantity in (gradients, running_statistics):
        one, other = quantity(network), quantity(plain)
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def norms(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).norm()


def gradients(network):
    """Per kind of parameter the sorted entries: a merged convolution holds those of its parts."""
    return sorted_entries((p.ndim, p.grad) for p in network.parameters())


def running_statistics(network):
    return sorted_entries(
        (name.rsplit(".", 1)[1], buffer)
        for name, buffer in network.named_buffers()
        if buffer.is_floating_point()
    )


def sorted_entries(groups):
    entries = {}
    for kind, tensor in groups:
        entries.setdefault(kind, []).append(tensor.flatten())
    return {str(kind): torch.cat(found).sort().values for kind, found in entries.items()}
