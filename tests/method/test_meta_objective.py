"""Eqs. 9 and 10."""

from __future__ import annotations

import math

import torch

from hdkd_dist.method.meta_objective import exit_weights, meta_objective, update_average

CE = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
E = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)


def test_meta_objective_written_out():
    alpha = 0.3
    expected = sum(
        alpha * c + (1 - alpha) * math.log1p(math.exp(c / e - 1))
        for c, e in zip(CE.tolist(), E.tolist(), strict=True)
    )
    assert math.isclose(float(meta_objective(CE, E, alpha)), expected, rel_tol=1e-12)


def test_exit_weights_treat_the_average_as_a_constant():
    alpha, step = 0.3, 1e-6
    weights = exit_weights(CE, E, alpha)
    for k in range(3):
        moved = torch.zeros(3, dtype=torch.float64)
        moved[k] = step
        difference = meta_objective(CE + moved, E, alpha) - meta_objective(CE - moved, E, alpha)
        assert math.isclose(float(weights[k]), float(difference) / (2 * step), rel_tol=1e-7)
    # Also where the average *is* the loss, as at the first step: not differentiated through.
    assert torch.allclose(exit_weights(CE, CE, 0.0), 0.5 / CE)


def test_lagging_exit_weighs_more():
    weights = exit_weights(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0]), 0.0)
    assert weights[1] > weights[0]


def test_average_starts_at_the_first_observation():
    first = update_average(None, CE)
    assert torch.equal(first, CE)
    torch.testing.assert_close(update_average(first, E, 0.9), 0.9 * CE + 0.1 * E)
