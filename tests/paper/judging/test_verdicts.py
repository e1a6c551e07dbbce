"""Verdicts on made-up runs of which the truth is known."""

from __future__ import annotations

import pytest
from judged_runs import BASE, MEANS, SEEDS, compared, evidence, runs

from hdkd_dist.paper.judging.comparisons import Claim
from hdkd_dist.paper.judging.verdicts import judge_claim


def test_sign_and_size_are_two_questions():
    claim = Claim("", [compared("dbt", "msdnet", 6.0), compared("dbt", "msdnet", 2.0)])
    small, equal = judge_claim(claim, evidence(runs(MEANS, 0.2))).findings
    assert (small.sign, small.size) == ("confirmed", "smaller than the paper's")
    assert (equal.sign, equal.size) == ("confirmed", "compatible with the paper's")
    (turned,) = judge_claim(
        Claim("", [compared("hdkd", "msdnet", 3.0)]), evidence(runs(MEANS))
    ).findings
    assert (turned.sign, turned.size) == ("reversed", "smaller than the paper's")
    whole = judge_claim(claim, evidence(runs(MEANS, 0.2)))
    assert whole.sign == "confirmed"
    assert whole.size == "1 smaller than the paper's, 1 compatible with the paper's"


def test_size_is_not_asked_where_the_paper_has_no_effect_of_that_sign():
    for each in (
        compared("dbt", "msdnet"),
        compared("dbt", "msdnet", -1.0),
        compared("dbt", "msdnet", -1.0, "within ±1"),
    ):
        (found,) = judge_claim(Claim("", [each]), evidence(runs(MEANS))).findings
        assert found.size is None


def test_a_claim_waits_for_all_its_seeds():
    missing = BASE["dbt"].with_seed(5).name
    claim = Claim("", [compared("dbt", "msdnet", 2.0)])
    (found,) = judge_claim(claim, evidence(runs(MEANS, without=[missing]))).findings
    assert (found.sign, found.size) == ("not enough runs yet", "not enough runs yet")
    assert (found.interval.seeds, found.wanted) == (7, 8)
    (fewer,) = judge_claim(claim, evidence(runs(MEANS, seeds=4), SEEDS[:4])).findings
    assert (fewer.sign, fewer.wanted) == ("confirmed", 4)


def test_an_interval_wider_than_what_is_sought_is_out_of_reach():
    claim = Claim("", [compared("dbt", "msdnet", 0.3), compared("dbt", "msdnet", 2.0)])
    tiny, large = judge_claim(claim, evidence(runs({**MEANS, "dbt": 30.0}, 0.7))).findings
    assert (tiny.sign, tiny.out_of_reach) == ("undecided", True)
    assert not large.out_of_reach


CONTROL = "impr"  # stands for a control between hdkd and naive_dkd


@pytest.mark.parametrize(
    ("learned", "control", "origin"),
    [
        (33.0, 30.1, "The gain is that of proportions: no control"),
        (33.0, 31.1, "The gain is that of proportions in part: size accounts for 34% of it"),
        (33.0, 33.0, "The gain is not shown to be more than that of a larger loss: the size of"),
        (30.2, 30.1, "No confirmed gain to explain"),
    ],
)
def test_controls_tell_where_a_gain_comes_from_and_do_not_count(learned, control, origin):
    claim = Claim(
        "",
        [
            compared("hdkd", "naive_dkd"),
            compared("hdkd", CONTROL, part="proportions"),
            compared(CONTROL, "naive_dkd", part="size"),
        ],
    )
    means = {**MEANS, "hdkd": learned}
    before = judge_claim(claim, evidence(runs(means, 0.2)))
    if learned > 31:
        assert before.origin == "Where the gain comes from awaits controls."
    after = judge_claim(claim, evidence(runs({**means, CONTROL: control}, 0.2)))
    assert after.origin.startswith(origin)
    assert after.sign == after.findings[0].sign == before.sign
    assert judge_claim(Claim("", [compared("hdkd", "dbt")]), evidence(runs(means))).origin is None
