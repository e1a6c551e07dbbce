"""The choices on the validation split: stage 0 and stage 0b."""

from __future__ import annotations

import pytest
from made_up import SMALL

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES, plain
from hdkd_dist.paper.trials import GAMMA_CONSTRAINT, RATE, settings_of
from hdkd_dist.paper.tuning import (
    NETWORKS,
    RATES,
    RULES,
    Tried,
    Untuned,
    choose_network,
    chosen,
    chosen_network,
    chosen_or_default,
    chosen_rule,
    network_trials,
    planned_stage,
    plateau,
    rule_trials,
    stage_trials,
)

BENCH = SMALL.benches["cifar100"]


def network(name, means, gap=6.0):
    """One run per rate with these mean accuracies."""
    return [
        Tried(name, rate, [mean - gap / 2, mean, mean, mean + gap / 2])
        for rate, mean in zip(RATES, means, strict=True)
    ]


def stage_0(best=0.1, name="tiny"):
    """Finished runs after which a network and a rate are chosen."""
    found = {}
    for (each, rate), trial in network_trials(SMALL).items():
        mean = 65.0 if rate == best else 64.5 if rate == 2 * best else 60.0
        gap = 8 if each == name else 6
        found[trial.name] = [mean - gap / 2, mean, mean, mean + gap / 2]
    return found


def stage_0b(scores, network, rule=None):
    """Finished runs with these means, by rule; ``fixed_norm`` builds on ``rule``."""
    settings = {**RULES, "fixed_norm": {**RULES.get(rule, {}), GAMMA_CONSTRAINT: "fixed_norm"}}
    return {
        trial.name: [mean] * 4
        for name, mean in scores.items()
        for trial in rule_trials(SMALL, name, {**network, **settings[name]})
    }


def test_a_rate_is_chosen_whose_double_is_as_good():
    # The best, 0.4, is the end of what was tried; at 0.2 a larger step makes no difference.
    assert plateau(network("tiny", [60, 64, 64.5, 65])).rate == 0.2
    # 0.1 is the best but a larger step harms; at 0.05 it does not, whatever it reaches itself.
    assert plateau(network("tiny", [64.5, 65, 62, 60])).rate == 0.05
    assert plateau(network("tiny", [60, 65, 62, 60])).rate == 0.05
    assert plateau(network("tiny", [65, 62, 60, 60])) is None


def test_the_network_with_the_larger_gap_is_chosen_if_it_is_large_enough():
    level = [64, 65, 64.5, 60]
    assert choose_network(network("tiny", level, 6) + network("gap", level, 7)).network == "gap"
    assert choose_network(network("tiny", level, 6) + network("gap", level, 4)).network == "tiny"
    with pytest.raises(Untuned, match="no network with 5 points of top-5 between its exits"):
        choose_network(network("tiny", level, 4) + network("gap", level, 4))


def test_the_test_split_and_the_seeds_of_tables_are_left_alone():
    trials = [t for stage in ("stage0", "stage0b") for t in planned_stage(stage, SMALL, {}.get)]
    assert len(trials) == len(NETWORKS) * len(RATES) + (len(RULES) + 1) * 4
    assert not any(trial.test for trial in trials)
    assert not {trial.seed for trial in trials} & {*SMALL.seeds, *SMALL.ablation_seeds}
    assert {trial.method for trial in stage_trials("stage0", SMALL, {}.get)} == {"msdnet"}


def test_each_stage_waits_for_the_one_before():
    with pytest.raises(Untuned, match=r"stage0 has not chosen yet \(8 of 8 .*--table stage0 "):
        stage_trials("stage0b", SMALL, {}.get)
    found = stage_0(best=0.1, name="gap")
    settings = chosen_network(SMALL, found.get)
    assert settings == {"hdkd.model.preset": "msdnet-cifar-gap", RATE: 0.1}
    first = stage_trials("stage0b", SMALL, found.get)
    assert len(first) == len(RULES) * 4  # two methods, two seeds
    assert all(trial.settings[RATE] == 0.1 for trial in first)
    with pytest.raises(Untuned, match=r"stage0b has not chosen yet \(20 of 20"):
        chosen_rule(SMALL, found.get)


def test_fixed_norm_is_tried_under_the_best_rule_and_may_win():
    found = stage_0()
    network = chosen_network(SMALL, found.get)
    means = dict.fromkeys(RULES, 60.0) | {"sgd0.3": 61.0}
    found |= stage_0b(means, network)
    (rule,) = {
        tuple(sorted(trial.settings.items()))
        for trial in stage_trials("stage0b", SMALL, found.get)
        if "fixed_norm" in trial.variant
    }
    assert dict(rule) == {**network, **RULES["sgd0.3"], GAMMA_CONSTRAINT: "fixed_norm"}
    with pytest.raises(Untuned, match=r"4 of 24 runs are missing"):
        chosen_rule(SMALL, found.get)
    worse, better = (found | stage_0b({"fixed_norm": mean}, network, "sgd0.3") for mean in (60, 62))
    assert chosen_rule(SMALL, worse.get) == RULES["sgd0.3"]
    assert chosen_rule(SMALL, better.get) == {**RULES["sgd0.3"], GAMMA_CONSTRAINT: "fixed_norm"}


def test_the_choice_reaches_every_method_and_gammas_rule_only_those_that_learn():
    found = stage_0(best=0.1, name="gap")
    network = chosen_network(SMALL, found.get)
    assert (
        chosen_or_default(SMALL, "hdkd", found.get)
        == network
        == chosen_or_default(SMALL, "msdnet", found.get)
    )
    assert chosen_or_default(SMALL, "hdkd", {}.get) == {}
    found |= stage_0b(dict.fromkeys(RULES, 60.0) | {"adam0.0003": 61.0}, network)
    found |= stage_0b({"fixed_norm": 50.0}, network, "adam0.0003")
    for name, method in METHODS.items():
        rule = RULES["adam0.0003"] if method.learns else {}
        assert chosen(SMALL, name, found.get) == {**network, **rule}

    def choose(method):
        return chosen(SMALL, method, found.get)

    for study in ("block1", "block2", "block3", "block4", "block6"):
        for row in STUDIES[study].rows(SMALL, choose):
            settings = settings_of(row.trial)
            assert settings.model.preset == "msdnet-cifar-gap"
            assert settings.schedule.base_lr == pytest.approx(0.1, rel=0.5)
    hdkd = settings_of(plain(SMALL, BENCH, 150, "hdkd", choose))
    assert (hdkd.gamma.optimizer, hdkd.gamma.lr, hdkd.gamma.every) == ("adam", 0.0003, 4)


def test_tables_wait_for_the_choices():
    with pytest.raises(Untuned):
        list(STUDIES["block1"].rows(SMALL, lambda method: chosen(SMALL, method, {}.get)))


def test_at_the_papers_scale_nothing_is_chosen_and_gamma_learns_by_algorithm_1():
    assert chosen(SCALES["paper"], "dbt", {}.get) == {}
    assert chosen(SCALES["paper_cheap"], "hdkd", {}.get) == {}
    assert chosen(SCALES["paper"], "hdkd", {}.get) == {
        "hdkd.gamma.lookahead": "lookahead",
        "hdkd.gamma.every": 1,
        "hdkd.gamma.optimizer": "sgd",
        "hdkd.gamma.lr": 0.1,
        "hdkd.gamma.constraint": "none",
    }
