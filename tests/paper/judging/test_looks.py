"""Looks at a growing study, of which the truth is known."""

from __future__ import annotations

from judged_runs import BASE, MEANS, PLANNED, SEEDS, compared, evidence, runs
from made_up import record

from hdkd_dist.paper.judging.comparisons import Claim, Evidence
from hdkd_dist.paper.judging.looks import judge_claims, looks
from hdkd_dist.paper.judging.statistics import LOOK_LEVEL

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
    last = looks(PRIMARY, evidence(runs(MEANS, 40.0)))[-1]
    assert (
        list(last.lines())[-1] == "after 8 seeds: this was the last look: what is open stays open"
    )
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


def test_there_is_no_look_for_which_too_few_seeds_are_planned():
    past = looks(PRIMARY, evidence(runs(MEANS, 0.2, seeds=3), SEEDS[:3]))
    assert [look.seeds for look in past] == [3]
    assert looks(PRIMARY, evidence(runs(MEANS, 0.2, seeds=2), SEEDS[:2])) == []
