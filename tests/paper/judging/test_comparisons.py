"""What is compared of a run, on which images, and with which noise."""

from __future__ import annotations

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.paper.judging.comparisons import (
    BESIDE,
    EXIT_QUANTITIES,
    METRIC,
    THIRDS,
    Comparison,
    Evidence,
    measure,
    noise_in,
)
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES, plain

BENCH = SMALL.benches["cifar100"]
SEEDS = (0, 1, 2)
METHODS = ("msdnet", "dbt", "hdbt", "hdkd")
BASE = {name: plain(SMALL, BENCH, 150, name, no_settings) for name in METHODS}
STARTS = {row.title: row.trial for row in STUDIES["3"].rows(SMALL, no_settings)}


def runs(accuracies, extra=None, luck=(0.0, 2.0, -1.0)):
    """Trial → accuracy per exit, over three seeds; ``extra`` is that much better."""
    found = {}
    for trial, exits in accuracies:
        for seed, more in zip(SEEDS, luck, strict=True):
            own = trial.with_seed(seed)
            values = [value + more for value in exits]
            on_extra = None if extra is None else [value + extra for value in values]
            found[own.name] = record(own, values, values, on_extra)
    return found


def evidence(records):
    return Evidence.of(records, records.keys(), SEEDS)


def compare(plus, minus, quantity="all exits", over=1):
    return Comparison("", plus, minus, quantity, "above 0", over)


def test_quantities_of_four_and_of_five_exits():
    four = {name: of([10.0, 20, 40, 60]) for name, of in EXIT_QUANTITIES.items()}
    assert four == {
        "exit 1": 10,
        "early exits": 15,
        "late exits": 50,
        "all exits": 32.5,
        "last exit": 60,
        "early less late exits": -35,
        "late less early exits": 35,
    }
    five = [10.0, 20, 30, 40, 50]
    assert EXIT_QUANTITIES["early exits"](five) == 15
    assert EXIT_QUANTITIES["late exits"](five) == 40


def test_thirds_of_the_budgets_in_either_metric():
    run = record(BASE["hdkd"], [1.0] * 4, [10.0, 10, 20, 20, 30, 30])
    assert [measure(run, third, "top1", False) for third in THIRDS] == [10, 20, 30]
    assert [measure(run, third, "top5", False) for third in THIRDS] == [30, 40, 50]


def test_held_out_images_count_once_each():
    run = record(BASE["hdkd"], [40.0] * 4, extra=[30.0, 30, 30, 40])
    # CIFAR(150) leaves 35,000 training images; the test split has 10,000.
    assert measure(run, "exit 1", "top1", True) == pytest.approx((10 * 40 + 35 * 30) / 45)
    assert measure(run, "exit 1", "top5", True) == pytest.approx((10 * 60 + 35 * 50) / 45)
    assert measure(run, "last exit", "top1", True) == pytest.approx(40)
    assert measure(run, "exit 1", "top1", False) == 40
    more = record(plain(SMALL, BENCH, 250, "hdkd", no_settings), [40.0] * 4, extra=[30.0] * 4)
    assert measure(more, "exit 1", "top1", True) == pytest.approx((10 * 40 + 25 * 30) / 35)


def test_runs_are_compared_on_all_images_that_they_were_not_trained_on():
    apart = compare([BASE["hdkd"]], [BASE["msdnet"]])
    with_extra = runs([(BASE["msdnet"], [30.0] * 4)], extra=0.0)
    with_extra |= runs([(BASE["hdkd"], [31.0] * 4)], extra=9.0)
    found = evidence(with_extra)
    assert found.extra == {("cifar100", "150")}
    assert found.differences(apart) == pytest.approx([1 + 9 * 35 / 45] * 3)
    without = evidence(runs([(BASE["msdnet"], [30.0] * 4), (BASE["hdkd"], [31.0] * 4)]))
    assert not without.extra
    assert without.differences(apart) == pytest.approx([1] * 3)


def test_a_run_that_was_measured_on_fewer_images_is_refused():
    with_extra = runs([(BASE["msdnet"], [30.0] * 4)], extra=0.0)
    one = BASE["hdkd"].with_seed(0)
    with pytest.raises(ValueError, match=f"{one.name} was not measured on the split extra"):
        evidence({**with_extra, one.name: record(one, [31.0] * 4)})


def test_data_sets_of_one_size_do_not_pass_for_each_other():
    """Each has its own luck of seeds, which is no noise."""
    found = {}
    for dataset, luck in (("cifar100", (0.0, 3.0, -2.0)), ("imagenet", (5.0, -4.0, 0.0))):
        for place, method in enumerate(("msdnet", "hdkd")):
            bench = SCALES["paper"].benches[dataset]
            trial = plain(SCALES["paper"], bench, 150, method, no_settings)
            for seed, deviation in enumerate(luck):
                run = trial.with_seed(seed)
                found[run.name] = record(run, [30.0 + 2 * place + deviation] * 4)
    noise = noise_in(found, "all exits", METRIC, ())
    assert noise.freedom == 2 * (2 - 1) * (3 - 1)
    assert noise.deviation == pytest.approx(0, abs=1e-9)


def test_noise_and_differences_are_those_of_the_metric():
    found = runs([(BASE["msdnet"], [30.0] * 4), (BASE["hdkd"], [31.0] * 4)])
    one = BASE["hdkd"].with_seed(0).name
    found[one].values["exits.1.top5"] += 4  # top-5 of one exit of one run
    seen = evidence(found)
    assert seen.noise[BESIDE]["exit 1"].deviation == pytest.approx(0, abs=1e-9)
    assert seen.noise[METRIC]["exit 1"].deviation > 1
    apart = compare([BASE["hdkd"]], [BASE["msdnet"]], "exit 1")
    assert seen.differences(apart, BESIDE) == pytest.approx([1, 1, 1])
    assert seen.differences(apart, METRIC) == pytest.approx([5, 1, 1])


def test_a_run_on_both_sides_of_a_difference_has_no_noise_in_it():
    one = compare([BASE["hdkd"]], [BASE["dbt"]])
    both = compare([BASE["hdkd"], BASE["hdbt"]], [BASE["dbt"], BASE["hdbt"]])
    twice = compare([BASE["hdkd"]] * 2, [BASE["hdbt"]] * 2)
    families = compare([BASE["hdkd"], BASE["hdbt"]], [BASE["msdnet"]] * 2, over=2)
    assert (one.runs, both.runs, twice.runs) == (2, 2, 8)
    assert families.runs == 0.25 + 0.25 + 1
    accuracies = {"dbt": 30.0, "hdbt": 35.0, "hdkd": 31.0, "msdnet": 29.0}
    seen = evidence(runs((BASE[name], [value] * 4) for name, value in accuracies.items()))
    assert seen.differences(both) == pytest.approx([1, 1, 1])
    assert seen.differences(families) == pytest.approx([4, 4, 4])


def test_starts_that_differ_by_seed_are_not_taken_for_noise():
    random = STARTS["random"]
    found = runs([(BASE["hdkd"], [30.0] * 4), (BASE["dbt"], [29.0] * 4)])
    apart = runs([(random, [25.0] * 4)], luck=(0.0, 9.0, -5.0))
    both = evidence({**found, **apart})
    assert both.noise == evidence(found).noise
    # Against it, the spread of the differences themselves counts: −5, 2, −9.
    spread = both.interval(compare([random], [BASE["hdkd"]]))
    assert (spread.mean, spread.freedom) == (pytest.approx(-4), 2)
    assert spread.error == pytest.approx((31 / 3) ** 0.5)
    usual = both.interval(compare([BASE["hdkd"]], [BASE["dbt"]]))
    assert usual.error == pytest.approx(0, abs=1e-9)
