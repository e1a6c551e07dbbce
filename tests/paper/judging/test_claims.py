"""The claims, and the paper's own effects beside them, from made-up runs."""

from __future__ import annotations

import pytest
from made_up import SMALL, no_settings
from runs_like_the_papers import (
    AS_PAPER,
    BENCH,
    HOLDING,
    PLANNED,
    SEEDS,
    STATED,
    claim,
    methods,
    runs,
    trial,
)

from hdkd_dist.paper.judging.claims import claims, paper_effect
from hdkd_dist.paper.judging.comparisons import Evidence
from hdkd_dist.paper.judging.verdicts import judge_claim
from hdkd_dist.paper.paper_values import Printed


def verdict(start, records):
    return judge_claim(claim(start), Evidence.of(records, PLANNED, SEEDS)).sign


CLAIMS = {
    "P1": {"dbt": [60.0, 64, 67, 69]},
    "P2": {"dbt": [62.0, 66, 69, 71], "naive_dkd": [62.0, 66, 69, 71]},
    "P3": {"hdkd": [60.0, 64, 67, 69]},
    "P4": {"hdbt": [64.0, 66, 68.5, 69], "hdkd": [65.0, 66, 68.5, 69]},
    "DBT, NaiveDKD and HDKD beat MSDNet at the early": {"naive_dkd": [60.0, 64, 67.5, 69]},
    "NaiveDKD beats DBT at exit 1": {"naive_dkd": [64.0, 66, 67.5, 69]},
    "Late exits stagnate": {"dbt": [62.0, 66, 69, 71]},
    "HDKD is the best at the last exit: MSDNet, DBT, N": {"naive_dkd": [65.0, 66, 67.5, 72]},
    "HDKD is the best at the last exit, second tier": {"impr": [60.5, 64.5, 67.5, 72]},
    "Learned weights help: HMSDNet": {"hmsdnet": [60.0, 64, 67, 69]},
    "Learned weights help: HDBT": {"hdbt": [66.0, 68, 68.5, 70.5]},  # early as well
    "Learned weights help: HDKD": {"hdkd": [65.0, 66, 68.5, 69]},
    "(Ours, suggested by": {"hdkd": [60.0, 60, 60, 60]},
    "Under budgets HDKD": {"dbt": [64.0, 66, 67.5, 72]},
}


@pytest.mark.parametrize("start", CLAIMS)
def test_a_claim_holds_where_it_is_so_and_only_there(start):
    assert judge_claim(claim(start), HOLDING).sign == "confirmed"
    assert verdict(start, methods(**{**AS_PAPER, **CLAIMS[start]})) != "confirmed"
    assert verdict(start, {}) == "not enough runs yet"


def test_gains_that_grow_as_the_data_shrink():
    text = "The gain of HDKD over MSDNet grows"
    few, many = sorted(BENCH.compared)[:2]

    def at(size, gain):
        return [(trial("msdnet", size), [20.0] * 4), (trial("hdkd", size), [20.0 + gain] * 4)]

    assert verdict(text, runs([*at(few, 5), *at(many, 1)])) == "confirmed"
    assert verdict(text, runs([*at(few, 5), *at(many, 9)])) == "reversed"
    assert verdict(text, runs(at(few, 5))) == "not enough runs yet"


def test_table_3():
    comparisons = {
        (each.title, each.quantity): each
        for stated in STATED
        if "γ" in stated.text or "α" in stated.text
        for each in stated.comparisons
    }
    base = claim("A random start").comparisons[0].minus[0]
    assert base == trial("hdkd")
    evolving = comparisons["DS-like − fixed from DS-like", "late exits"]
    assert evolving.plus == [base]
    assert evolving.minus[0].source == base
    own = comparisons["DBT-like − fixed from DBT-like", "late exits"]
    assert own.minus[0].source == own.plus[0]
    alpha = comparisons["α 1 − α 0.5", "late exits"]
    assert alpha.statement == "below 0"
    assert alpha.minus == [base]
    found = runs([(base, [60.0, 64, 67, 69]), (alpha.plus[0], [61.0, 64, 66, 68])])
    assert verdict("α = 1 favours the first exit", found) == "confirmed"
    found = runs([(base, [60.0, 64, 67, 69]), (alpha.plus[0], [61.0, 64, 67, 69])])
    assert verdict("α = 1 favours the first exit", found) == "undecided"


def test_primary_statements_lead_and_exploratory_ones_are_marked():
    standings = [each.standing for each in STATED]
    assert standings[:4] == ["primary"] * 4
    assert [each.text[:3] for each in STATED[:4]] == ["P1.", "P2.", "P3.", "P4."]
    assert "primary" not in standings[4:]
    assert [each.text for each in STATED if each.standing == "exploratory"] == [
        claim("(Ours, suggested by").text
    ]
    for each in STATED[:4]:  # one number per seed each
        assert len(each.comparisons) == 1


def test_a_learned_gamma_that_keeps_its_sum_has_no_controls_but_its_sister():
    keeps = {"hdkd.gamma.constraint": "fixed_sum"}
    each = {
        found.text.split(" beats")[0]: {one.title for one in found.comparisons}
        for found in claims(SMALL, lambda name: keeps if name == "hdbt" else no_settings(name))
    }
    replayed = "DBT with Σγ/Σγ₀ replayed"
    assert not [title for title in each["Learned weights help: HDBT"] if replayed in title]
    assert f"HDKD − Naive{replayed.replace('DBT', 'DKD')}" in each["Learned weights help: HDKD"]


# Typed from the paper's Tables 2 and 3.
PAPER = {
    ("2", "CIFAR(150)", "MSDNet"): (74.44, 78.97, 81.27, 82.72, 84.12, 85.10, 85.30, 84.85),
    ("2", "CIFAR(150)", "DBT"): (80.92, 84.20, 84.95, 85.67, 86.24, 86.59, 86.36, 85.70),
    ("2", "CIFAR(150)", "NaiveDKD"): (82.20, 84.72, 84.87, 86.10, 86.46, 86.90, 86.70, 85.99),
    ("2", "CIFAR(150)", "HDBT"): (80.09, 82.91, 84.03, 85.69, 86.32, 86.84, 86.86, 86.94),
    ("2", "CIFAR(150)", "HDKD"): (81.38, 83.87, 84.65, 86.33, 86.76, 87.20, 87.14, 87.43),
    ("3", "initial γ", "DS-like"): (78.72, 82.58, 85.13, 85.87, 87.37),
    ("3", "initial γ", "DBT-like"): (79.02, 81.78, 83.67, 84.49, 85.65),
}


def effect(plus, minus, quantity, over=1):
    printed = {place: Printed("top5", exits) for place, exits in PAPER.items()}
    places = {place[2]: place for place in printed}
    sides = [[places.get(name, ("2", "CIFAR(150)", name)) for name in side.split()]
             for side in (plus, minus)]  # fmt: skip
    return paper_effect(printed, *sides, quantity, over)


@pytest.mark.parametrize(
    ("plus", "minus", "quantity", "over", "points"),
    [  # by hand
        ("DBT", "MSDNet", "exit 1", 1, 6.48),
        ("DBT", "MSDNet", "early exits", 1, 4.585),
        ("DBT NaiveDKD", "MSDNet MSDNet", "early less late exits", 2, 3.32875),
        ("HDKD", "MSDNet", "all exits", 1, 3.49875),
        ("HDBT HDKD", "DBT NaiveDKD", "last exit", 2, 1.34),
        ("HDBT", "DBT", "late less early exits", 1, 1.2725),
        ("DBT-like", "DS-like", "all exits", 1, -1.012),
        ("HMSDNet", "MSDNet", "all exits", 1, None),  # not among these rows
        ("HDKD", "MSDNet", "low budgets", 1, None),
    ],
)
def test_the_papers_own_effects(plus, minus, quantity, over, points):
    assert effect(plus, minus, quantity, over) == (points and pytest.approx(points))


def test_claims_carry_the_papers_effects():
    effects = [each.comparisons[0].effect for each in STATED[:4]]
    assert effects == pytest.approx([6.48, 3.32875, 3.49875, 1.34])
    letter = claim("HDKD by Algorithm 1 to the letter").comparisons
    assert [each.effect for each in letter] == pytest.approx([3.49875, 1.44])
    evolving = claim("γ fixed").comparisons[0]
    assert evolving.effect == pytest.approx(1.12667, abs=1e-4)
    assert claim("The gain of HDKD").comparisons[0].effect == pytest.approx(1.59, abs=5e-3)


def test_another_metric_is_no_effect():
    place = ("2", "CIFAR(150)", "DBT")
    assert paper_effect({place: Printed("top1", (1.0, 2.0))}, [place], [place], "exit 1") is None
