"""The tables as data."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from made_up import SMALL, no_settings

from hdkd_dist.config.settings import GammaSettings
from hdkd_dist.method.weights import METHODS
from hdkd_dist.models.presets import PRESETS
from hdkd_dist.paper.queue import ORDER, TUNING, in_order_of_seeds, part_of, studies_named, unique
from hdkd_dist.paper.records import keeps_curve
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES, controls
from hdkd_dist.paper.trials import digest, settings_of
from hdkd_dist.paper.tuning import SISTERS, planned_tuning


def rows_of(study, scale):
    return list(STUDIES[study].rows(SCALES[scale], no_settings))


def all_trials(scale):
    chosen = SCALES[scale]
    studies = [in_order_of_seeds(name, rows_of(name, scale)) for name in STUDIES]
    return [*planned_tuning(chosen, no_settings), *(trial for study in studies for trial in study)]


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
    assert all(len(row.seeds) >= 3 for row in [*one, *two])


@pytest.mark.parametrize("scale", SCALES)
def test_equal_names_are_equal_runs_with_settings_that_exist(scale):
    seen = {}
    for trial in all_trials(scale):
        assert seen.setdefault(trial.name, trial.identity) == trial.identity
        settings_of(trial)


def test_the_main_result_is_run_once():
    names = [
        {trial.name for row in rows_of(study, "small") for trial in row.trials}
        for study in ("2", "3", "levers", "figure2")
    ]
    assert all("cifar100-150-hdkd-seed0" in study for study in names)


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
    trials = in_order_of_seeds("2", rows_of("2", "small"))
    assert [trial.size for trial in trials] == [150] * 21
    assert [trial.seed for trial in trials[:21]] == [0] * 7 + [1] * 7 + [2] * 7


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
        assert gamma.lr / gamma.every == pytest.approx(0.0005)  # how far γ goes in an epoch


def test_a_changed_default_is_a_changed_run_and_a_written_one_is_not(monkeypatch):
    row = rows_of("2", "small")[-1]
    alpha = GammaSettings().alpha
    same, other = (
        replace(row.trial, settings={"hdkd.gamma.alpha": value}) for value in (alpha, 0.1)
    )
    assert digest(same) == digest(row.trial) != digest(other)
    before = digest(same)
    monkeypatch.setitem(PRESETS, "msdnet-cifar-tiny", PRESETS["msdnet-cifar-small"])
    assert digest(same) != before


def test_a_control_of_a_changed_run_is_a_changed_control():
    control = next(row.trial for row in controls(SMALL, no_settings) if row.trial.source)
    changed = replace(control.source, settings={"hdkd.gamma.lr": 0.5})
    assert replace(control, source=changed).name == control.name
    found = replace(control, source=changed).identity
    assert {key for key in found if found[key] != control.identity[key]} == {"source_digest"}


def test_studies_are_named_as_on_the_command_line():
    assert studies_named("all") == ORDER
    assert studies_named(2) == ("2",)
    assert studies_named("tuning,2") == (TUNING, "2")
    assert studies_named(("tuning", 2)) == (TUNING, "2")  # as fire gives it
    with pytest.raises(ValueError, match=r"--table must be among tuning, 2, .* not 'two'"):
        studies_named("two")
