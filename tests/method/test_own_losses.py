"""Losses of one's own: one function each, with a weight of its own in γ."""

import torch

from hdkd_dist.method import (
    METHODS,
    Algorithm,
    LossLayout,
    PlainEngine,
    ds_like,
    forward_of,
    loss_vector,
    start_weights,
    with_terms,
)
from hdkd_dist.method.hypergradient import second_order
from hdkd_dist.models import build

K, C = 3, 5


def confidence(logits, labels, temperature):
    return -torch.distributions.Categorical(logits=logits).entropy().mean()


def margin(logits, labels, temperature):
    """Of Crammer & Singer, at each exit; how far apart neighbouring exits are, too."""
    hinge = torch.nn.functional.multi_margin_loss(logits.flatten(0, 1), labels.repeat(len(logits)))
    return hinge + ((logits[1:] - logits[:-1]) / temperature).square().mean()


longer = with_terms(loss_vector, [confidence, margin])


def test_further_losses_have_their_weights_and_their_derivatives():
    torch.manual_seed(0)
    network = build("vit-digits", C, width=12, hidden=8).double().train()
    initial = torch.cat([ds_like(METHODS["hdkd"], K, 1.0, "per_pair"), torch.tensor([0.1, 0.2])])
    weights = start_weights(initial.double(), torch.ones(len(initial)).double(), optimizer="adam")
    engine = PlainEngine(network, torch.optim.AdamW(network.parameters(), lr=1e-3))
    algorithm = Algorithm(engine, weights, losses=longer)
    train, metaval = [
        (torch.randn(6, 3, 16, 16, dtype=torch.float64), torch.randint(C, (6,))) for _ in range(2)
    ]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = expected_gradient(network, weights.gamma, train, metaval, rate=1e-3)

    seen, gradient = algorithm.step([train], [metaval], rate=1e-3)

    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-14)
    assert seen.losses.shape == (len(LossLayout(K, ("confidence", "margin"))),) == (8,)
    assert (weights.gamma != weights.initial).all()


def expected_gradient(network, gamma, train, metaval, rate):
    """By double backward: Eq. 10 at its first step, where E_k is CE_k itself."""
    theta = {name: value.detach() for name, value in network.named_parameters()}
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    forward = forward_of(network)

    def losses(logits, labels):
        return longer(logits, labels, torch.tensor(3.0))

    loss = gamma @ losses(forward(leaves, train[0]), train[1])
    gradient = torch.autograd.grad(loss, list(leaves.values()))
    ahead = {
        name: (value - rate * g).detach().requires_grad_()
        for (name, value), g in zip(theta.items(), gradient, strict=True)
    }
    ce = loss_vector(forward(ahead, metaval[0]), metaval[1], 3.0)[:K]
    value = (0.5 * ce + 0.5 * torch.nn.functional.softplus(ce / ce.detach() - 1)).sum()
    v = dict(zip(ahead, torch.autograd.grad(value, list(ahead.values())), strict=True))
    return -rate * second_order(forward, losses, theta, v, train)
