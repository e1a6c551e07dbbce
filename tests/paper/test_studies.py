"""The tables as data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from made_up import SMALL, no_settings

from hdkd_dist.config.settings import GammaSettings
from hdkd_dist.method.weights import METHODS
from hdkd_dist.models.presets import PRESETS
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.planning import power_of
from hdkd_dist.paper.queue import in_order_of_seeds, part_of, studies_named, unique
from hdkd_dist.paper.records import keeps_curve
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import ALPHAS, STUDIES, controls
from hdkd_dist.paper.trials import Folders, same_steps, settings_of, trial_digest
from hdkd_dist.paper.tuning import SISTERS, STAGES, planned_stage


def learned(scale):
    """The settings of a scale, or those of the configuration where they are chosen first."""
    return lambda method: SCALES[scale].learned if METHODS[method].learns else {}


def rows_of(study, scale):
    return list(STUDIES[study].rows(SCALES[scale], learned(scale)))


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


def test_a_smaller_imagenet_trains_for_as_many_steps():
    bench = SCALES["paper"].benches["imagenet"]
    rows = {row.block: settings_of(row.trial).schedule for row in rows_of("1", "paper")}
    steps = {
        title: rows[bench.title(size)].epochs * (bench.train_images(size) // 1024)
        for size, title in ((size, bench.title(size)) for size in bench.sizes)
    }
    whole = steps.pop("ImageNet(full)")
    assert whole == 90 * 1202  # (1,281,167 − 50,000) // 1024
    assert all(found == pytest.approx(whole, rel=2e-3) for found in steps.values())
    small = rows["ImageNet(100)"]
    part = [milestone / small.epochs for milestone in small.milestones]
    assert part == pytest.approx([30 / 90, 60 / 90])
    assert small.warmup_epochs / small.epochs == pytest.approx(5 / 90)
    assert same_steps(SCALES["paper"].benches["cifar100"], 150) == {}


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


def test_what_a_run_builds_on_comes_first_and_has_its_seed():
    for study in ("controls", "3"):
        trials = in_order_of_seeds(study, rows_of(study, "small"))
        place = {trial.name: number for number, trial in enumerate(trials)}
        built = [trial for trial in trials if trial.source]
        assert built
        for trial in built:
            assert trial.source.seed == trial.seed
            assert place[trial.source.name] < place[trial.name]


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


def test_sizes_come_one_after_the_other_with_paired_seeds():
    of_paper = in_order_of_seeds("2", rows_of("2", "paper"))
    assert [trial.size for trial in of_paper] == [150] * 21 + [250] * 21 + [350] * 21 + [500] * 21
    assert [trial.seed for trial in of_paper[:21]] == [0] * 7 + [1] * 7 + [2] * 7


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_share_the_work_and_keep_sources(parts):
    trials = unique(in_order_of_seeds("controls", rows_of("controls", "small")))
    split = [part_of(trials, (index, parts)) for index in range(parts)]
    assert Counter(name for part in split for name in part) == dict.fromkeys(
        (trial.name for trial in trials), 1
    )
    for part in split:
        assert all(t.source.name in part for t in trials if t.name in part and t.source)


@pytest.mark.parametrize("scale", SCALES)
def test_levers_are_what_their_titles_say(scale):
    for row in rows_of("levers", scale):
        gamma = settings_of(row.trial).gamma
        kind, often = row.title.split(", ")[:2]
        words = {1: "every step", 2: "every 2nd step", 5: "every 5th step"}
        assert (gamma.lookahead, words[gamma.every]) == (kind, often)
        far = {"paper": 0.1, "paper_cheap": 0.0005, "small": 0.00025}[scale]
        assert gamma.lr / gamma.every == pytest.approx(far)  # how far γ goes in an epoch


@pytest.mark.parametrize("scale", SCALES)
def test_each_study_can_decide_something(scale, tmp_path):
    ledger = Ledger(SCALES[scale], Folders(tmp_path, tmp_path), tmp_path, {})
    lines = list(power_of(SCALES[scale].studies, ledger))
    assert any("the paper has" in line for line in lines)


def test_a_changed_default_is_a_changed_run_and_a_written_one_is_not(monkeypatch):
    row = rows_of("2", "small")[-1]
    alpha = GammaSettings().alpha
    same, other = (
        replace(row.trial, settings={"hdkd.gamma.alpha": value}) for value in (alpha, 0.1)
    )
    assert trial_digest(same) == trial_digest(row.trial) != trial_digest(other)
    before = trial_digest(same)
    monkeypatch.setitem(PRESETS, "msdnet-cifar-tiny", PRESETS["msdnet-cifar-small"])
    assert trial_digest(same) != before


def test_a_control_of_a_changed_run_is_a_changed_control():
    control = next(row.trial for row in controls(SMALL, no_settings) if row.trial.source)
    changed = replace(control.source, settings={"hdkd.gamma.lr": 0.5})
    assert replace(control, source=changed).name == control.name
    found = replace(control, source=changed).identity
    assert {key for key in found if found[key] != control.identity[key]} == {"source_digest"}


def test_studies_are_named_as_on_the_command_line():
    small, paper = SMALL, SCALES["paper"]
    assert studies_named("all", small) == small.studies
    assert studies_named(2, paper) == ("2",)
    assert studies_named("stage0,block1", small) == ("stage0", "block1")
    assert studies_named((1, "figure2"), paper) == ("1", "figure2")  # as fire gives it
    with pytest.raises(ValueError, match=r"must be among stage0, .* small, or all, not '2'"):
        studies_named("2", small)
    for scale in SCALES.values():
        assert {*scale.studies} <= {*STAGES, *STUDIES}


def test_records_stay_valid_when_settings_are_added():
    """If this fails a setting is new: give its neutral value in ``trials._NEUTRAL``.

    If a default has changed, records of earlier runs are void: change the digest here.
    """
    first, *_, last = rows_of("block1", "small")
    assert [trial_digest(row.trial) for row in (first, last)] == ["4e774c361321", "53757c38738d"]
