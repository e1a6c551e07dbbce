"""DBT's annealing."""

from __future__ import annotations

import pytest
import torch

from hdkd_dist.method.objective import anneal, confidence


def test_confidence_is_of_the_last_exit_at_the_temperature():
    logits = torch.tensor([[[9.0, 0.0]], [[2.0, 0.0]]])  # K = 2, B = 1, C = 2
    expected = torch.sigmoid(torch.tensor(2.0 / 4))
    torch.testing.assert_close(confidence(logits, torch.tensor(4.0)), expected)


@pytest.mark.parametrize(("seen", "factor"), [(0.51, 1.05), (0.5, 1.0), (0.2, 1.0)])
def test_temperature_rises_only_with_confidence(seen, factor):
    assert float(anneal(torch.tensor(2.0), torch.tensor(seen))) == pytest.approx(2 * factor)
