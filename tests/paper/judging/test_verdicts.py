"""Verdicts, looks and power, from made-up runs of which the truth is known."""

from __future__ import annotations

import re

import pytest
from made_up import SMALL, no_settings, record
from scipy.stats import t as student

from hdkd_dist.paper.judging.comparisons import PRIOR_NOISE, Claim, Comparison, Evidence
from hdkd_dist.paper.judging.statistics import LOOK_LEVEL, Noise
from hdkd_dist.paper.judging.verdicts import (
    half_width,
    judge_claim,
    judge_claims,
    looks,
    power_lines,
)
from hdkd_dist.paper.studies import plain

BENCH = SMALL.benches["cifar100"]
SEEDS = tuple(range(8))
METHODS = ("msdnet", "dbt", "naive_dkd", "hdbt", "hdkd", "impr")
BASE = {name: plain(SMALL, BENCH, 150, name, no_settings) for name in METHODS}
PLANNED = {trial.with_seed(seed).name for trial in BASE.values() for seed in SEEDS}


def compared(plus, minus, effect=None, statement="above 0", part="claim", quantity="all exits"):
    return Comparison(
        f"{plus} − {minus}", [BASE[plus]], [BASE[minus]], quantity, statement, 1, effect, part
    )


def runs(means, noise=0.5, seeds=8, without=()):
    """Method → mean accuracy of all exits; the luck of seeds, and noise that averages out."""
    luck = (0.0, 2.0, -1.0, 0.5, 1.0, -2.0, 3.0, 0.0)
    return {
        run.name: record(run, [mean + luck[seed] + noise * ((place + seed) % 3 - 1)] * 4)
        for place, (name, mean) in enumerate(means.items())
        for seed in range(seeds)
        if (run := BASE[name].with_seed(seed)).name not in without
    }


def evidence(records, seeds=SEEDS):
    return Evidence.of(records, PLANNED, seeds)


MEANS = {"msdnet": 30.0, "dbt": 32.0, "naive_dkd": 30.1, "hdbt": 31.0, "hdkd": 29.0}


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


PRIMARY = [
    Claim("P1.", [compared("dbt", "msdnet", 6.0)], "primary"),
    Claim("P2.", [compared("hdbt", "msdnet", 1.0)], "primary"),
]
OTHER = Claim("other", [compared("hdkd", "msdnet", 3.0)])


def test_looks_are_after_three_four_six_and_eight_seeds():
    assert looks(PRIMARY, evidence(runs(MEANS, seeds=2))) == []
    for done, last in ((3, [3]), (4, [3, 4]), (5, [3, 4]), (7, [3, 4, 6]), (8, [3, 4, 6, 8])):
        past = looks(PRIMARY, evidence(runs(MEANS, seeds=done)))
        assert [look.seeds for look in past] == last
        (found,) = past[-1].judged[0].findings
        assert found.interval.seeds == last[-1]


def test_looks_say_afterwards_what_they_said_then():
    early = looks(PRIMARY, evidence(runs(MEANS, seeds=4)))
    later = looks(PRIMARY, evidence(runs({**MEANS, "impr": 31.0}, seeds=8)))
    assert later[:2] == early


def test_a_look_uses_its_own_level():
    (look,) = looks(PRIMARY, evidence(runs(MEANS, 0.2, seeds=3)))
    (found,) = look.judged[0].findings
    low, high = found.interval.bounds(LOOK_LEVEL)
    assert f"({low:+.2f} to {high:+.2f}, 2 degrees of freedom)" in next(look.lines())
    (learned,) = look.judged[1].findings
    # Two methods with fixed weights, three with those that learn; three seeds.
    assert (found.interval.freedom, learned.interval.freedom) == (2, 4)


def test_what_fixed_weights_do_does_not_wait_for_those_that_learn():
    without = [BASE["hdbt"].with_seed(seed).name for seed in (2, 3, 4, 5, 6, 7)]
    some = evidence(runs(MEANS, 0.2, without=without))
    past = looks(PRIMARY, some)
    assert [[each.claim.text for each in look.judged] for look in past] == [["P1."]] * 4
    assert not any(look.may_stop for look in past)
    assert list(past[0].lines())[-1] == "after 3 seeds: 1 await runs"
    # What those say does not change when the others come.
    later = looks(PRIMARY, evidence(runs(MEANS, 0.2)))
    assert [look.judged[0] for look in later] == [look.judged[0] for look in past]
    first, second = judge_claims(PRIMARY, some)
    assert first == past[-1].judged[0]
    assert second.findings[0].sign == "not enough runs yet"


def test_a_primary_statement_has_no_verdict_without_a_look():
    three = [*PRIMARY, Claim("P3.", [compared("naive_dkd", "msdnet", 1.0)], "primary")]
    missing = [BASE["naive_dkd"].with_seed(0).name]  # of those that give P1's noise
    found = evidence(runs(MEANS, 0.2, without=missing))
    assert looks(three, found) == []
    assert {each.sign for each in judge_claims(three, found)} == {"not enough runs yet"}


def test_a_look_says_what_all_seeds_could_tell():
    noisy = runs({**MEANS, "dbt": 30.0}, 1.0, seeds=3)
    weak = [Claim("P1.", [compared("dbt", "msdnet", 2.0)], "primary"), PRIMARY[1]]
    (found,) = looks(weak, evidence(noisy))[0].judged[0].findings
    low, high = found.interval.bounds(LOOK_LEVEL)
    assert (high - low) / 2 > 2.0  # with three seeds it is out of reach, with eight it is not
    assert (found.sign, found.wanted, found.out_of_reach) == ("undecided", 8, False)


def test_what_a_look_has_decided_stands():
    found = runs(MEANS, 0.1)
    for seed in (4, 5, 6, 7):  # from here on DBT does much worse
        run = BASE["dbt"].with_seed(seed)
        found[run.name] = record(run, [20.0] * 4)
    past = looks(PRIMARY, evidence(found))
    signs = [look.judged[0].findings[0].sign for look in past]
    assert signs == ["confirmed"] * 4
    assert past[-1].judged[0].findings[0].interval.mean < 0


def test_the_study_may_stop_when_all_primary_statements_are_closed():
    (first,) = looks(PRIMARY, evidence(runs(MEANS, 0.1, seeds=3)))
    assert first.may_stop
    assert list(first.lines())[-1] == "after 3 seeds: all are closed: it may stop"
    (noisy,) = looks(PRIMARY, evidence(runs(MEANS, 2.0, seeds=3)))
    assert not noisy.may_stop
    assert list(noisy.lines())[-1] == "after 3 seeds: it goes on to the next look"
    # A statement whose effect is smaller than the paper's is closed, whatever its sign.
    flat = [Claim("P1.", [compared("naive_dkd", "msdnet", 6.0)], "primary")]
    (look,) = looks(flat, evidence(runs({**MEANS, "naive_dkd": 30.0}, 0.3, seeds=3)))
    (found,) = look.judged[0].findings
    assert (found.sign, found.size) == ("undecided", "smaller than the paper's")
    assert look.may_stop


def test_after_an_early_stop_the_others_want_no_more_seeds():
    stopped = judge_claims([*PRIMARY, OTHER], evidence(runs(MEANS, 0.1, seeds=3)))
    assert [each.sign for each in stopped] == ["confirmed", "confirmed", "reversed"]
    going_on = judge_claims([*PRIMARY, OTHER], evidence(runs(MEANS, 2.0, seeds=3)))
    assert going_on[-1].sign == "not enough runs yet"
    assert going_on[-1].findings[0].wanted == 8


def test_what_is_not_planned_is_not_judged():
    planned = {name for name in PLANNED if "impr" not in name}
    away = Claim("away", [compared("impr", "msdnet")])
    half = Claim("half", [compared("impr", "msdnet"), compared("hdkd", "msdnet")])
    found = judge_claims([away, half], Evidence.of(runs(MEANS), planned, SEEDS))
    assert [each.claim.text for each in found] == ["half"]
    assert [each.comparison.title for each in found[0].findings] == ["hdkd − msdnet"]


def test_half_widths_are_those_of_the_design():
    # 0.58 · 2.0 · √(2/8) and the like; t(0.975, 41) = 2.01954.
    for quantity, width in (("exit 1", 0.586), ("all exits", 0.717), ("last exit", 0.889)):
        one = compared("dbt", "msdnet", quantity=quantity)
        assert half_width(one, 8, PRIOR_NOISE[quantity]) == pytest.approx(width, abs=1e-3)
    wider = half_width(one, 8, PRIOR_NOISE["last exit"], LOOK_LEVEL)
    assert wider / 0.889 == pytest.approx(student.ppf(0.9909, 41) / 2.01954, rel=1e-3)
    assert half_width(one, 2, Noise(1.0, 41)) == pytest.approx(2.01954, abs=1e-4)
    assert half_width(one, 8, None) is None


def test_the_plan_says_what_it_can_decide():
    claim = Claim(
        "",
        [
            compared("dbt", "msdnet", 6.48),
            compared("hdbt", "msdnet", 0.32),
            compared("hdkd", "msdnet", None),
            compared("impr", "msdnet", None, "within ±1"),
            compared("impr", "msdnet", None, quantity="low budgets"),
        ],
    )
    lines = list(power_lines([claim], {"all exits": Noise(0.6, 28)}, 8))
    width = student.ppf(0.975, 28) * 0.6 * 0.5
    assert lines[0] == f"dbt − msdnet, all exits, ± {width:.2f}, the paper has 6.48"
    assert lines[1].endswith("the paper has 0.32, cannot be decided with 8 seeds")
    assert lines[2] == f"hdkd − msdnet, all exits, ± {width:.2f}"
    assert lines[3].endswith("the margin is 1.00")
    assert lines[4] == "impr − msdnet, low budgets, width not known"
    (prior,) = power_lines([Claim("", [compared("dbt", "msdnet", 6.48)])], {}, 8)
    assert "± 0.72 (by the noise of an earlier study)" in prior


def test_a_study_that_can_decide_nothing_is_refused():
    hopeless = [Claim("", [compared("hdbt", "msdnet", 0.32), compared("hdkd", "hdbt", 0.6)])]
    nearest = re.escape("(the nearest: hdkd − hdbt, all exits, ± 1.01")
    with pytest.raises(ValueError, match=f"4 seeds can decide none .* {nearest}"):
        power_lines(hopeless, {}, 4)
    assert list(power_lines([], {}, 4)) == []
    assert len(list(power_lines(hopeless, {"all exits": Noise(0.2, 28)}, 4))) == 2


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
