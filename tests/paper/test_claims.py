"""Claims held against made-up runs of which the truth is known."""

from __future__ import annotations

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.paper.claims import claims
from hdkd_dist.paper.judging import judged
from hdkd_dist.paper.studies import controls, plain

BENCH = SMALL.benches["cifar100"]
ALL = {each.text: each for each in claims(SMALL, no_settings)}


def claim(start):
    (found,) = [each for text, each in ALL.items() if text.startswith(start)]
    return found


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


def verdict(start, records):
    return judged(claim(start), records, SMALL.seeds).verdict


def test_without_runs_no_claim_is_decided():
    assert len(ALL) >= 13
    for each in ALL.values():
        assert judged(each, {}, SMALL.seeds).verdict == "not enough runs yet"


def test_pairs_share_their_seeds_luck():
    # The seeds' luck (standard deviation 1.5) would hide half a point if runs were not paired.
    found = runs({"naive_dkd": [30, 31, 32, 33], "hdkd": [30.5, 31.5, 32.6, 33.7]})
    held = judged(claim("Harmonised weights help: HDKD"), found, (0, 1, 2))
    gain, contrast, *_ = held.found
    assert gain.mean == pytest.approx((0.5 + 0.5 + 0.6 + 0.7) / 4)
    assert gain.low > 0
    assert contrast.mean == pytest.approx(0.65 - 0.5)
    assert gain.seeds == 3


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


def test_controls_are_shown_and_do_not_count():
    text = "Harmonised weights help: HDKD"
    found = runs({"naive_dkd": [30, 31, 32, 33], "hdkd": [31, 32, 34, 35]})
    before = judged(claim(text), found, SMALL.seeds)
    assert before.verdict == "confirmed"
    assert "awaits controls" in before.origin
    rows = controls(SMALL, no_settings)
    of_sister = [row.trial for row in rows if row.trial.method == "naive_dkd"]
    found |= lucky((trial, [33, 34, 35, 36]) for trial in of_sister)
    held = judged(claim(text), found, SMALL.seeds)
    assert held.verdict == "confirmed"
    assert held.verdicts[2:] == ["refuted", "refuted"]
    assert held.origin.startswith("The gain comes from the size of the loss")
    found |= lucky((trial, [30, 31, 32, 33]) for trial in of_sister)
    assert judged(claim(text), found, SMALL.seeds).origin.startswith("The gain is harmony's")
    assert judged(claim("HDKD is the best overall"), found, SMALL.seeds).origin is None


def test_thresholds_flatter_learned_and_fixed_runs_alike():
    found = runs({"msdnet": [20] * 4, "hdkd": [22] * 4, "dbt": [21] * 4})
    assert verdict("The validation split can be used again", found) == "confirmed"
    assert verdict("Under budgets HDKD", found) == "confirmed"
