"""Both searches: budgets kept, the geometric rule obeyed, the direct one as good as brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from exits import COSTS, split

from hdkd_dist.evaluation import thresholds as searches
from hdkd_dist.evaluation.thresholds import (
    SEARCHES,
    budget_rows,
    budgets_between,
    geometric,
    geometric_shares,
    paired_gains,
)
from hdkd_dist.inference.confidence import Judged
from hdkd_dist.inference.scoring import score

BUDGETS = budgets_between(COSTS, 12)[1:-1]


def test_geometric_shares_are_geometric_and_cost_the_budget():
    shares = geometric_shares(COSTS, BUDGETS)
    ratios = shares[:, 1:] / shares[:, :-1]
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(10, dtype=torch.float64))
    torch.testing.assert_close(shares @ torch.tensor(COSTS, dtype=torch.float64), BUDGETS)


def test_geometric_thresholds_let_those_shares_leave():
    made = split(1000, seed=0)
    found = score(made, COSTS, geometric(made.confidence, COSTS, BUDGETS))
    assert (found.shares - geometric_shares(COSTS, BUDGETS)).abs().max() <= 1.01e-3


@pytest.mark.parametrize("search", SEARCHES)
def test_the_budget_is_kept_on_validation_and_nearly_on_test(search):
    validation, test = split(3000, seed=0), split(3000, seed=1)
    thresholds = SEARCHES[search](validation, COSTS, BUDGETS)
    found = score(validation, COSTS, thresholds)
    assert (found.cost <= BUDGETS + 3e-3).all()
    assert (found.cost >= BUDGETS - 0.02)[:8].all()
    assert (score(test, COSTS, thresholds).cost - found.cost).abs().max() < 0.15


@pytest.mark.parametrize("search", SEARCHES)
def test_ends_of_the_range(search):
    made = split(500, seed=0)
    ends = torch.tensor([COSTS[0], COSTS[-1]], dtype=torch.float64)
    found = score(made, COSTS, SEARCHES[search](made, COSTS, ends))
    assert float(found.cost[0]) == COSTS[0]
    assert float(found.cost[1]) <= COSTS[-1]
    for budget in (COSTS[0] - 0.1, COSTS[-1] + 0.1):
        with pytest.raises(ValueError, match="a budget of"):
            SEARCHES[search](made, COSTS, torch.tensor([budget], dtype=torch.float64))


def test_direct_is_as_good_as_brute_force_on_what_it_maximises(monkeypatch):
    """All thresholds of three exits, tried one by one; without the caution about noise."""
    monkeypatch.setattr(searches, "STANDARD_ERRORS", 0)
    made = split(120, seed=3)
    costs = [1.0, 2.0, 4.0]
    made = Judged(*(value[:3] for value in vars(made).values()))
    budgets = torch.tensor([1.5, 2.0, 2.5, 3.0], dtype=torch.float64)
    candidates = [
        torch.cat([c.sort().values[::4], torch.tensor([2.0])]) for c in made.confidence[:2]
    ]
    every = torch.tensor([[a, b, 0.0] for a, b in itertools.product(*candidates)])
    worth, cost = _expected(made, costs, every)
    mine, spent = _expected(made, costs, SEARCHES["direct"](made, costs, budgets))
    for budget, value, own in zip(budgets, mine, spent, strict=True):
        assert own <= budget + 1e-9
        assert value >= worth[cost <= budget].max() - 0.02


def _expected(made: Judged, costs, thresholds):
    taken = torch.stack([(made.confidence >= t[:, None]).int().argmax(dim=0) for t in thresholds])
    return made.worth.gather(0, taken).mean(dim=1), torch.tensor(costs)[taken].mean(dim=1)


def test_direct_beats_geometric_on_held_out_images():
    """Where a stage in the middle helps least for its cost, equal ratios cannot be right."""
    costs = [1.0, 2.0, 4.5, 5.0]
    budgets = budgets_between(costs, 12)[1:-1]
    validation, test = split(4000, seed=0), split(8000, seed=1)
    rows = {s: budget_rows(validation, test, costs, budgets, search=s) for s in SEARCHES}
    gains = paired_gains(test, rows["direct"], rows["geometric"])
    assert all(gain["high"] >= 0 for gain in gains)
    assert sum(gain["difference"] for gain in gains) > 1


def test_comparison_is_paired():
    test = split(2000, seed=0)
    rows = budget_rows(test, test, COSTS, BUDGETS)
    for gain in paired_gains(test, rows, rows):
        assert (gain["low"], gain["difference"], gain["high"]) == (0, 0, 0)


def test_without_a_sure_gain_the_geometric_policy_stays():
    """Exits that are equally good: what a maximum finds there is noise."""
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(4, 2000, generator=generator)
    right = torch.rand(2000, generator=generator).expand(4, -1) < 0.3
    noise = torch.rand(4, 2000, generator=generator) < 0.02
    made = Judged(confidence, (right ^ noise).float(), right ^ noise, right)
    rows = [SEARCHES[search](made, COSTS, BUDGETS) for search in ("direct", "geometric")]
    same = (rows[0] == rows[1]).all(dim=1)
    assert same.float().mean() >= 0.8
