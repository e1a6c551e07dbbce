"""The vision transformer with exits: its attention, its derivative, and a step of γ on meta."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hdkd_dist.method.functional import forward_of
from hdkd_dist.method.hypergradient import jvp, second_order
from hdkd_dist.method.objective import loss_vector
from hdkd_dist.models import PRESETS, build, exit_costs
from hdkd_dist.models.vit import Attention


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours = Attention(12, heads=3).double()
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.queries_keys_values.weight)
        theirs.in_proj_bias.copy_(ours.queries_keys_values.bias)
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)

    expected, _ = theirs(tokens, tokens, tokens, need_weights=False)

    torch.testing.assert_close(ours(tokens), expected)


def test_forward_mode_is_double_backward():
    torch.manual_seed(0)
    network = build("vit-digits", 5, width=12, hidden=8).double()
    theta = dict(network.named_parameters())
    v = {name: torch.randn_like(value) for name, value in theta.items()}
    batch = torch.randn(4, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 1, 2, 3])

    def losses(logits, labels):
        return loss_vector(logits, labels, 3.0)

    forward = forward_of(network)
    with sdpa_kernel(SDPBackend.MATH):  # torch has no second derivative of the fused kernel
        expected = second_order(forward, losses, theta, v, batch)
    found = jvp(forward, losses, theta, v, batch)

    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_costs_by_hand():
    spec = PRESETS["vit-digits"]
    width, tokens, hidden = spec.width, spec.tokens, spec.hidden
    patches = tokens * width * 3 * spec.patch**2
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    block = attention + 2 * tokens * width * hidden
    head = 10 * width + tokens * width  # the average counts one per element
    expected = [(patches + (k + 1) * (block + head)) / 1e6 for k in range(3)]

    assert exit_costs(build("vit-digits"), 16).mmac == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 5}, "width 48 cannot be shared by 5 heads"),
        ({"patch": 5}, "images of 16 pixels cannot be cut into patches of 5"),
        ({"blocks": []}, "blocks must be a list of positive"),
    ],
)
def test_values_that_give_no_network(values, message):
    with pytest.raises(ValueError, match=message):
        build("vit-digits", **values)
