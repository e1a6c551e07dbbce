"""Claims held against made-up runs of which the truth is known."""

from __future__ import annotations

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.paper.claims import claims
from hdkd_dist.paper.judging import Comparison, Evidence, judged
from hdkd_dist.paper.queue import in_order_of_seeds
from hdkd_dist.paper.studies import STUDIES, controls, plain

BENCH = SMALL.benches["cifar100"]
ALL = {each.text: each for each in claims(SMALL, no_settings)}


def claim(start):
    (found,) = [each for text, each in ALL.items() if text.startswith(start)]
    return found


PLANNED = {
    trial.name
    for name, study in STUDIES.items()
    for trial in in_order_of_seeds(name, list(study.rows(SMALL, no_settings)))
}
LUCK = (0.0, 2.0, -1.0)  # of the seeds; the same for all methods


def runs(accuracies, size=150):
    """Method → accuracy per exit, over three seeds."""
    return lucky(
        (plain(SMALL, BENCH, size, name, no_settings), exits) for name, exits in accuracies.items()
    )


def lucky(accuracies):
    found = {}
    for trial, exits in accuracies:
        for seed, luck in enumerate(LUCK):
            own = trial.with_seed(seed)
            values = [value + luck for value in exits]
            found[own.name] = record(own, values, values)
    return found


def held(start, records):
    return judged(claim(start), Evidence.of(records, PLANNED, SMALL.seeds))


def verdict(start, records):
    return held(start, records).verdict


def test_without_runs_no_claim_is_decided():
    assert len(ALL) >= 13
    for each in ALL.values():
        assert judged(each, Evidence.of({}, PLANNED, SMALL.seeds)).verdict == "not enough runs yet"


def test_pairs_share_their_seeds_luck():
    # The seeds' luck (standard deviation 1.5) would hide half a point if runs were not paired.
    found = runs({"naive_dkd": [30, 31, 32, 33], "hdkd": [30.5, 31.5, 32.6, 33.7]})
    gain, contrast, *_ = held("Harmonised weights help: HDKD", found).findings
    assert gain.interval.mean == pytest.approx((0.5 + 0.5 + 0.6 + 0.7) / 4)
    assert gain.interval.bounds()[0] > 0
    assert contrast.interval.mean == pytest.approx(0.65 - 0.5)
    assert (gain.interval.seeds, gain.wanted) == (3, 3)


def test_a_claim_waits_for_all_its_seeds():
    found = runs({"naive_dkd": [30, 31, 32, 33], "hdkd": [31, 32, 34, 35]})
    del found[plain(SMALL, BENCH, 150, "hdkd", no_settings).with_seed(2).name]
    waiting = held("Harmonised weights help: HDKD", found)
    assert waiting.verdict == "not enough runs yet"
    gain, *_ = waiting.findings
    assert (gain.interval.seeds, gain.wanted) == (2, 3)


def test_early_and_last_exits():
    methods = {name: [25, 26, 27, 27.5] for name in ("dbt", "impr", "hdbt", "hdkd")}
    better = {**methods, "naive_dkd": [26, 27, 27, 27.2], "msdnet": [20, 24, 27, 28]}
    assert verdict("Every method with distillation", runs(better)) == "confirmed"
    assert verdict("DBT and NaiveDKD stagnate", runs(better)) == "confirmed"
    worse = runs({**better, "impr": [19, 20, 30, 40]})
    assert verdict("Every method with distillation", worse) == "refuted"
    gaining = runs({**better, "dbt": [25, 26, 27, 30]})
    assert verdict("DBT and NaiveDKD stagnate", gaining) == "refuted"


def test_gains_that_grow_as_the_data_shrink():
    text = "The gain of HDKD grows"
    few = runs({"msdnet": [20] * 4, "hdkd": [25] * 4})
    smaller = runs({"msdnet": [30] * 4, "hdkd": [31] * 4}, 250)
    larger = runs({"msdnet": [30] * 4, "hdkd": [39] * 4}, 250)
    assert verdict(text, {**few, **smaller}) == "confirmed"
    assert verdict(text, {**few, **larger}) == "refuted"
    assert verdict(text, few) == "not enough runs yet"


SISTER, LEARNED = [30.0, 31, 32, 33], [31.0, 32, 34, 35]  # a gain of 1.5


@pytest.mark.parametrize(
    ("control", "origin"),
    [
        (SISTER, "The gain is harmony's: no control"),
        ([29.0, 30, 31, 32], "The gain is harmony's: no control"),
        ([30.5, 31.5, 32.5, 33.5], "The gain is harmony's in part: a control has 33% of it"),
        (
            LEARNED,
            "The gain is not shown to be more than that of a larger loss: a control has 100% of",
        ),
        (
            [33.0, 34, 35, 36],
            "The gain is not shown to be more than that of a larger loss: a control has 200% of",
        ),
    ],
)
def test_controls_tell_where_a_gain_comes_from_and_do_not_count(control, origin):
    text = "Harmonised weights help: HDKD"
    found = runs({"naive_dkd": SISTER, "hdkd": LEARNED})
    before = held(text, found)
    assert before.verdict == "confirmed"
    assert "awaits controls" in before.origin
    rows = controls(SMALL, no_settings)
    found |= lucky((row.trial, control) for row in rows if row.trial.method == "naive_dkd")
    after = held(text, found)
    assert after.verdict == "confirmed"
    assert after.origin.startswith(origin)
    assert held("HDKD is the best overall", found).origin is None


def test_under_budgets_every_third_counts():
    found = runs({"msdnet": [20] * 6, "dbt": [21] * 6, "hdkd": [30, 30, 22, 22, 22, 22]})
    assert verdict("Under budgets HDKD", found) == "confirmed"
    found = runs({"msdnet": [20] * 6, "dbt": [21] * 6, "hdkd": [40, 40, 40, 40, 19, 19]})
    assert verdict("Under budgets HDKD", found) == "refuted"


def test_thresholds_flatter_learned_and_fixed_runs_alike():
    found = runs({"msdnet": [20] * 4, "hdkd": [22] * 4, "dbt": [21] * 4})
    assert verdict("The validation split can be used again", found) == "confirmed"
    assert verdict("Under budgets HDKD", found) == "confirmed"


def test_families_taken_together_show_what_none_of_them_does():
    # Each family gains 0.5, but runs vary by 0.3, so that only the sum of the three stands out.
    fixed = {"msdnet": 30.0, "dbt": 31.0, "naive_dkd": 31.5}
    learned = {"hmsdnet": 30.5, "hdbt": 31.5, "hdkd": 32.0}
    found = {}
    for number, (name, accuracy) in enumerate({**fixed, **learned}.items()):
        for seed in SMALL.seeds:
            own = plain(SMALL, BENCH, 150, name, no_settings).with_seed(seed)
            found[own.name] = record(own, [accuracy + 0.3 * ((number + seed) % 3 - 1)] * 4)
    for family in ("HMSDNet", "HDBT", "HDKD"):
        gain, *_ = held(f"Harmonised weights help: {family}", found).findings
        assert gain.interval.mean == pytest.approx(0.5)
        assert gain.verdict == "undecided"
    together = held("(Ours, added when Table 2", found)
    assert together.findings[0].interval.mean == pytest.approx(1.5)
    assert together.verdict == "confirmed"
    assert "awaits controls" in together.origin


def test_a_run_on_both_sides_of_a_difference_has_no_noise_in_it():
    base = {name: plain(SMALL, BENCH, 150, name, no_settings) for name in ("dbt", "hdbt", "hdkd")}
    one = Comparison("", [base["hdkd"]], [base["dbt"]], "all exits", "above 0")
    also = [base["hdbt"]]
    both = Comparison("", [base["hdkd"], *also], [base["dbt"], *also], "all exits", "above 0")
    twice = Comparison("", [base["hdkd"]] * 2, also * 2, "all exits", "above 0")
    assert (one.runs, both.runs, twice.runs) == (2, 2, 8)
    found = runs({"dbt": [30] * 4, "hdbt": [35] * 4, "hdkd": [31] * 4})
    assert both.differences(found, SMALL.seeds) == pytest.approx([1, 1, 1])


def test_a_learned_gamma_that_keeps_its_sum_has_no_controls_but_its_sister():
    keeps = {"hdkd.gamma.constraint": "fixed_sum"}
    each = {
        found.text: found
        for found in claims(SMALL, lambda name: keeps if name == "hdbt" else no_settings(name))
    }
    parts = {
        name: [
            comparison.part
            for comparison in each[f"Harmonised weights help: {name}, most late."].comparisons
        ]
        for name in ("HDBT beats DBT", "HDKD beats NaiveDKD")
    }
    assert parts == {
        "HDBT beats DBT": ["claim", "claim"],
        "HDKD beats NaiveDKD": ["claim", "claim", *["harmony", "size"] * 2],
    }


def test_starts_that_differ_by_seed_are_not_taken_for_noise():
    text = "Harmonised weights help: HDKD"
    found = runs({"naive_dkd": [30.0, 31, 32, 33], "hdkd": [30.5, 31.5, 32.6, 33.7]})
    starts = {row.title: row.trial for row in STUDIES["3"].rows(SMALL, no_settings)}
    apart = {
        own.name: record(own, [accuracy] * 4)
        for own, accuracy in (
            (starts["random"].with_seed(0), 20.0),
            (starts["random"].with_seed(1), 29.0),
        )
    }
    assert held(text, {**found, **apart}).findings == held(text, found).findings
    same = {**found, **lucky([(starts["DBT-like"], [20.0, 29, 21, 30])])}
    assert (
        held(text, same).findings[0].interval.freedom
        > held(text, found).findings[0].interval.freedom
    )
