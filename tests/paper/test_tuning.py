"""The search for settings."""

from __future__ import annotations

import pytest
from made_up import SMALL

from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES
from hdkd_dist.paper.tuning import (
    CANDIDATES,
    SEED,
    SISTERS,
    Untuned,
    best,
    candidates,
    chosen,
    tuning_trials,
)


def scored(method, values, scores):
    names = [trial.name for trial in candidates(SMALL, method, scores).values()]
    return {**scores, **dict(zip(names, values, strict=True))}


def test_the_same_number_of_settings_for_every_method():
    (number,) = {len(settings) for settings in CANDIDATES.values()}
    assert 1 < number <= 4


def test_the_test_split_and_the_seeds_of_tables_are_left_alone():
    trials = tuning_trials(SMALL, {})
    assert trials
    assert not any(trial.test for trial in trials)
    assert SEED not in {*SMALL.seeds, *SMALL.ablation_seeds}


def test_a_learned_method_starts_from_its_sisters_best():
    with pytest.raises(Untuned, match=r"naive_dkd is not tuned yet .*run --table tuning"):
        candidates(SMALL, "hdkd", {})
    assert not any(trial.method in SISTERS for trial in tuning_trials(SMALL, {}))
    scores = scored("naive_dkd", [20.0, 30.0, 25.0, 10.0], {})
    second = list(CANDIDATES["naive_dkd"])[1]
    assert best(SMALL, "naive_dkd", scores) == second
    tried = candidates(SMALL, "hdkd", scores)
    for name, trial in tried.items():
        assert trial.settings == {**CANDIDATES["naive_dkd"][second], **CANDIDATES["hdkd"][name]}
    assert {trial.name for trial in tried.values()} <= {
        trial.name for trial in tuning_trials(SMALL, scores)
    }


def test_tables_wait_for_the_search():
    scores = scored("msdnet", [1.0, 2.0, 4.0, 3.0], {})
    assert chosen(SMALL, "msdnet", scores) == CANDIDATES["msdnet"][list(CANDIDATES["msdnet"])[2]]
    with pytest.raises(Untuned):
        list(STUDIES["2"].rows(SMALL, lambda method: chosen(SMALL, method, scores)))


def test_at_the_papers_scale_nothing_is_searched():
    assert chosen(SCALES["paper"], "hdkd", {}) == {}
