"""Eq. 8 against float64 finite differences, double backward, and a single process."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from ranks_harness import on_ranks
from small_network import batch, functional, small_msdnet, smooth_network

from hdkd_dist.distributed.ranks import mean_over_ranks
from hdkd_dist.method.hypergradient import (
    alone,
    finite_difference,
    hypergradient,
    look_ahead,
    metaval_gradient,
    second_order,
)
from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.objective import cross_entropies, loss_vector
from hdkd_dist.method.weights import METHODS, ds_like

ALPHA, STEP = 0.4, 0.1
AVERAGE = torch.tensor([1.0, 2.0, 1.5], dtype=torch.float64)
TEMPERATURE = torch.tensor(3.0, dtype=torch.float64)


def weights(dtype=torch.float64):
    return ds_like(METHODS["hdkd"], 3, 1.0, "per_student").to(dtype)


def looked_ahead(network, train_forward, gamma, train, metaval, average=AVERAGE, **settings):
    """L_val(θ − ξ∇L_train(θ, γ)) as the paper writes it, differentiable in γ."""
    forward = functional(network)
    theta = dict(network.named_parameters())
    temperature = settings.get("temperature", TEMPERATURE)
    objective = sum(gamma @ loss_vector(train_forward(theta, x), y, temperature) for x, y in train)
    gradient = torch.autograd.grad(
        objective / len(train), list(theta.values()), create_graph=gamma.requires_grad
    )
    ahead = {
        name: value - STEP * g for (name, value), g in zip(theta.items(), gradient, strict=True)
    }
    ce = sum(cross_entropies(forward(ahead, x), y) for x, y in metaval) / len(metaval)
    return MetaObjective(ALPHA, average_ce=average.to(ce.dtype)).loss(ce)


REFERENCES = {"second_order": second_order, "finite_difference": finite_difference}


def compute(
    network, train, metaval, *, solver="jvp", average=AVERAGE, mean=alone, dtype=None, **ge
):
    """The hypergradient, and CE_k of the meta-validation batch at θ'."""
    dtype = dtype or torch.float64
    theta, temperature = dict(network.named_parameters()), TEMPERATURE.to(dtype)
    training, validation = functional(network, **ge), functional(network)

    def losses(logits, labels):
        return loss_vector(logits, labels, temperature)

    ahead = look_ahead(training, losses, theta, weights(dtype), train, step_size=STEP, mean=mean)
    meta = MetaObjective(ALPHA, average_ce=None if average is None else average.to(dtype))
    v, ce = metaval_gradient(validation, cross_entropies, ahead, metaval, meta, mean)
    if solver == "jvp":
        found = hypergradient(training, losses, theta, v, train, step_size=STEP, mean=mean)
    else:
        entries = [REFERENCES[solver](training, losses, theta, v, examples) for examples in train]
        found = -STEP * torch.stack(entries).mean(dim=0)
    return found, ce


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("solver", ["jvp", "second_order"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_against_central_differences(solver, accumulation):
    network = smooth_network()
    train = [batch(8, 6, seed, torch.float64) for seed in range(accumulation)]
    metaval = [batch(8, 6, 10 + seed, torch.float64) for seed in range(accumulation)]
    found, _ = compute(network, train, metaval, solver=solver)
    gamma, step = weights(), 1e-4
    expected = torch.empty_like(gamma)
    for i in range(len(gamma)):
        moved = torch.zeros_like(gamma)
        moved[i] = step
        sides = [
            looked_ahead(network, functional(network), gamma + sign * moved, train, metaval)
            for sign in (1, -1)
        ]
        expected[i] = (sides[0] - sides[1]).detach() / (2 * step)
    assert relative(found, expected) < 1e-6


@pytest.mark.parametrize("equilibrium", [False, True])
def test_jvp_against_double_backward_on_msdnet_in_training_mode(equilibrium):
    network = small_msdnet()
    arguments = {"gradient_equilibrium": True} if equilibrium else {}
    train, metaval = [batch(16, 16, 1, torch.float32)], [batch(16, 16, 2, torch.float32)]
    found, _ = compute(network, train, metaval, dtype=torch.float32, **arguments)
    gamma = weights(torch.float32).requires_grad_()
    objective = looked_ahead(
        network,
        functional(network, **arguments),
        gamma,
        train,
        metaval,
        temperature=TEMPERATURE.float(),
    )
    (expected,) = torch.autograd.grad(objective, gamma)
    assert relative(found, expected) < 1e-4
    solved, _ = compute(
        network, train, metaval, solver="second_order", dtype=torch.float32, **arguments
    )
    assert relative(found, solved) < 1e-4


def test_finite_difference_is_near_where_the_network_is_smooth():
    network = smooth_network()
    batches = [batch(8, 6, 1, torch.float64)], [batch(8, 6, 2, torch.float64)]
    exact, _ = compute(network, *batches)
    found, _ = compute(network, *batches, solver="finite_difference")
    assert 1e-12 < relative(found, exact) < 1e-3


def test_first_step_takes_the_average_from_its_own_batch():
    network = smooth_network()
    train, metaval = [batch(8, 6, 1, torch.float64)], [batch(8, 6, 2, torch.float64)]
    first, ce = compute(network, train, metaval, average=None)
    again, _ = compute(network, train, metaval, average=ce)
    assert torch.equal(first, again)


def test_leaves_no_trace_in_the_network():
    network = small_msdnet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    compute(
        network,
        [batch(8, 16, 1, torch.float32)],
        [batch(8, 16, 2, torch.float32)],
        dtype=torch.float32,
    )
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())


def shards(ranks, accumulation, first_seed):
    """The global batch as (micro-step a, rank r) → its slice."""
    return [
        [batch(4, 6, first_seed + a * ranks + r, torch.float64) for a in range(accumulation)]
        for r in range(ranks)
    ]


def on_rank(ranks, accumulation):
    rank = torch.distributed.get_rank()
    return compute(
        smooth_network(),
        shards(ranks, accumulation, 1)[rank],
        shards(ranks, accumulation, 50)[rank],
        mean=mean_over_ranks,
    )


def test_two_ranks_with_accumulation_equal_one_process_with_the_same_shards():
    results = on_ranks(2, on_rank, 2, 2)
    train, metaval = ([*chain(*shards(2, 2, seed))] for seed in (1, 50))
    expected, expected_ce = compute(smooth_network(), train, metaval)
    for gradient, ce in results:
        assert relative(gradient, expected) < 1e-9
        assert relative(ce, expected_ce) < 1e-9
    assert torch.equal(results[0][0], results[1][0])


def test_mean_of_local_hypergradients_is_something_else():
    """The reductions matter: Eq. 10 is not linear, nor is the product of two means."""
    train, metaval = shards(2, 1, 1), shards(2, 1, 50)
    both, _ = compute(smooth_network(), train[0] + train[1], metaval[0] + metaval[1])
    local = [compute(smooth_network(), train[r], metaval[r])[0] for r in range(2)]
    assert relative((local[0] + local[1]) / 2, both) > 1e-2
