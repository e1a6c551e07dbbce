"""Eqs. 9 and 10."""

from __future__ import annotations

import math

import torch

from hdkd_dist.method.meta_objective import MetaObjective

CE = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
E = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)


def test_meta_objective_written_out():
    alpha = 0.3
    expected = sum(
        alpha * c + (1 - alpha) * math.log1p(math.exp(c / e - 1))
        for c, e in zip(CE.tolist(), E.tolist(), strict=True)
    )
    assert math.isclose(float(MetaObjective(alpha, average_ce=E).loss(CE)), expected, rel_tol=1e-12)


def test_exit_weights_treat_the_average_as_a_constant():
    alpha, step = 0.3, 1e-6
    meta = MetaObjective(alpha, average_ce=E)
    weights = meta.exit_weights(CE)
    for k in range(3):
        moved = torch.zeros(3, dtype=torch.float64)
        moved[k] = step
        difference = meta.loss(CE + moved) - meta.loss(CE - moved)
        assert math.isclose(float(weights[k]), float(difference) / (2 * step), rel_tol=1e-7)
    # Also where the average *is* the loss, as at the first step: not differentiated through.
    assert torch.allclose(MetaObjective(0.0).exit_weights(CE), 0.5 / CE)


def test_lagging_exit_weighs_more():
    weights = MetaObjective(0.0, average_ce=torch.tensor([2.0, 2.0])).exit_weights(
        torch.tensor([1.0, 3.0])
    )
    assert weights[1] > weights[0]


def test_average_starts_at_the_first_observation():
    meta = MetaObjective(momentum=0.9)
    meta.update(CE)
    assert torch.equal(meta.average_ce, CE)
    meta.update(E)
    torch.testing.assert_close(meta.average_ce, 0.9 * CE + 0.1 * E)
