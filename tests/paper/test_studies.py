"""The tables as data."""

from __future__ import annotations

from collections import Counter

import pytest
from made_up import SMALL, no_settings, rows_of

from hdkd_dist.config.settings import GammaSettings
from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.queue import in_order_of_seeds
from hdkd_dist.paper.records import keeps_curve
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import ALPHAS, STUDIES, controls
from hdkd_dist.paper.trials import settings_of
from hdkd_dist.paper.tuning import SISTERS, STAGES, planned_stage
from hdkd_dist.training.gamma import gamma_rate


def all_trials(scale):
    stages = [planned_stage(name, SCALES[scale], {}.get) for name in STAGES]
    studies = [in_order_of_seeds(name, rows_of(name, scale)) for name in STUDIES]
    return [trial for trials in [*stages, *studies] for trial in trials]


def test_the_tables_are_the_papers():
    one, two, three = (rows_of(table, "paper") for table in "123")
    assert Counter(row.block for row in one) == dict.fromkeys(
        ["ImageNet(100)", "ImageNet(300)", "ImageNet(500)", "ImageNet(full)"], 7
    )
    assert Counter(row.block for row in two) == dict.fromkeys(
        ["CIFAR(150)", "CIFAR(250)", "CIFAR(350)", "CIFAR(500)"], 7
    )
    assert [len(list(rows)) for rows in (one, two)] == [28, 28]
    assert list(Counter(row.block for row in three).values()) == [3, 2, 5]
    assert ALPHAS == (0, 0.1, 0.5, 0.9, 1)
    assert {row.trial.bench.folder(row.trial.size) for row in three} == {"imagenet-300"}
    assert all(len(row.seeds) >= 3 for row in [*one, *two])


def test_figure_2_has_the_papers_networks_and_data():
    rows = rows_of("figure2", "paper")
    networks = {
        (row.trial.bench.folder(row.trial.size), settings_of(row.trial).model.preset)
        for row in rows
    }
    assert networks == {
        *(("cifar100-500", f"msdnet-cifar-{exits}") for exits in (4, 5, 6, 8)),
        *(("imagenet", f"msdnet-imagenet-{layers}") for layers in (4, 6, 7)),
    }
    assert {row.title for row in rows} == {"MSDNet", "DBT", "HDKD"}


def test_the_papers_scale_is_algorithm_1_and_eq_4():
    for row in rows_of("2", "paper"):
        settings = settings_of(row.trial)
        assert settings.loss.kd_share == "per_pair"
        if METHODS[row.trial.method].learns:
            gamma = settings.gamma
            assert (gamma.lookahead, gamma.every) == ("lookahead", 1)
            assert (gamma.optimizer, gamma.constraint) == ("sgd", "none")
    cheap = settings_of(rows_of("2", "paper_cheap")[-1].trial)
    assert cheap.gamma == GammaSettings(lookahead="online")  # to which auto comes


def test_the_blocks_of_the_study():
    first = in_order_of_seeds("block1", rows_of("block1", "small"))
    methods = ["msdnet", "dbt", "naive_dkd", "hdbt", "hdkd"]
    assert [(trial.seed, trial.method) for trial in first] == [
        (seed, method) for seed in range(8) for method in methods
    ]
    both = {row.trial.name for study in ("block1", "block2") for row in rows_of(study, "small")}
    assert both == {row.trial.name for row in rows_of("2", "small")}
    rates = {
        row.trial.method: row.trial.rate
        for row in rows_of("block3", "small")
        if "rate" in row.trial.variant
    }
    assert rates == {"msdnet": pytest.approx(0.14), "dbt": pytest.approx(0.13)}
    kept = [row.trial for row in rows_of("block3", "small") if row.trial.variant == "fixed_norm"]
    assert {trial.method for trial in kept} == {"hdkd", "hdbt"}
    starts = {row.title: row.trial for row in rows_of("block4", "small")}
    assert {title: settings_of(trial).gamma.init for title, trial in starts.items()} == {
        "DBT-like": "dbt_like",
        "random": "random_same_sum",
        "from DS-like": "ds_like",  # replaced by the γ of the run that it takes it from
    }
    assert starts["from DS-like"].source.name in both
    (letter,) = rows_of("block6", "small")
    gamma = settings_of(letter.trial).gamma
    assert (gamma.lookahead, gamma.every, gamma.optimizer, gamma.constraint) == (
        *("lookahead", 1, "sgd", "none"),
    )
    assert gamma.lr == pytest.approx(0.3 / 4)


def test_where_the_norm_is_kept_anyway_that_is_its_own_control():
    def choose(method):
        return {"hdkd.gamma.constraint": "fixed_norm"} if METHODS[method].learns else {}

    rows = STUDIES["block3"].rows(SMALL, choose)
    names = [row.trial.name for row in rows if METHODS[row.trial.method].learns]
    assert names == ["cifar100-150-hdkd-seed0", "cifar100-150-hdbt-seed0"]


@pytest.mark.parametrize("scale", SCALES)
def test_equal_names_are_equal_runs_with_settings_that_exist(scale):
    seen = {}
    for trial in all_trials(scale):
        assert seen.setdefault(trial.name, trial.identity) == trial.identity
        settings_of(trial)


def test_the_main_result_is_run_once():
    def names(study, scale):
        return {trial.name for row in rows_of(study, scale) for trial in row.trials}

    assert all("cifar100-150-hdkd-seed0" in names(each, "paper") for each in ("2", "levers"))
    assert all("imagenet-300-hdkd-seed0" in names(each, "paper") for each in ("1", "3"))
    assert all("cifar100-500-hdkd-seed0" in names(each, "paper") for each in ("2", "figure2"))
    assert all("cifar100-150-hdkd-seed0" in names(each, "small") for each in ("block1", "3"))


def test_the_course_of_gamma_is_kept_of_every_run_whose_size_is_taken():
    taken = [row.trial for row in controls(SMALL, no_settings) if row.trial.source]
    assert taken
    assert all(keeps_curve(trial.source) for trial in taken)


def test_each_learned_method_has_its_controls():
    rows = rows_of("controls", "small")
    pairs = Counter((row.trial.source.method, row.trial.method) for row in rows)
    assert pairs == dict.fromkeys(SISTERS.items(), 2)
    assert set(SISTERS) == {name for name, method in METHODS.items() if method.learns}


def test_a_constant_sum_makes_the_sister_its_own_control():
    def choose(method):
        return {"hdkd.gamma.constraint": "fixed_sum"} if method == "hdbt" else {}

    rows = list(STUDIES["controls"].rows(SCALES["small"], choose))
    built = {row.trial.method: row.trial.source for row in rows}
    assert built["dbt"] is None
    assert built["msdnet"]
    assert [row.trial.name for row in rows if row.trial.method == "dbt"] == [
        "cifar100-150-dbt-seed0"
    ] * 2


@pytest.mark.parametrize("scale", SCALES)
def test_levers_are_what_their_titles_say(scale):
    for row in rows_of("levers", scale):
        gamma = settings_of(row.trial).gamma
        kind, often = row.title.split(", ")[:2]
        words = {1: "every step", 2: "every 2nd step", 5: "every 5th step"}
        assert (gamma.lookahead, words[gamma.every]) == (kind, often)
        steps = 5 * 2 * 100
        far = gamma_rate(gamma, steps) * (steps // gamma.every)  # how far γ goes in so many
        assert far == pytest.approx({"paper": 100, "paper_cheap": 0.5, "small": 0.5}[scale])
