"""Budget curves, calibration and means over seeds, as results.json has them."""

from __future__ import annotations

import json
from statistics import stdev

import pytest
from recorded_run import record_run, settings

from hdkd_dist.reporting.evaluated import budget_curves, calibration, means_over_seeds
from hdkd_dist.reporting.page import render
from hdkd_dist.reporting.runs import read_runs


def change_results(folder, change):
    file = folder / "results.json"
    results = json.loads(file.read_text())
    change(results)
    file.write_text(json.dumps(results))


def evaluated(results):
    errors = {"max_probability": [0.3, 0.2, 0.1], "calibrated": [0.03, 0.02, 0.01]}
    results["budgeted"] = [{"mmac": 10.0, "top1": 60.0}, {"mmac": 20.0, "top1": 70.0}]
    results["confidence"] = {"ece": {"test": errors}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    folders = []
    for method in ("hdkd", "dbt"):
        for seed in (0, 1):
            chosen = settings(method, run={"wandb": "disabled", "seed": seed})
            folders.append(record_run(folder / f"{method}{seed}", chosen))
    for place, accuracy in ((0, 40.0), (1, 41.0)):
        change_results(folders[place], lambda r, a=accuracy: r["exits"][1].update(top1=a))
    change_results(folders[0], evaluated)
    change_results(folders[1], lambda results: results.update(budgeted="of another version"))
    return read_runs(folders)


def test_means_are_those_over_seeds(runs):
    hdkd, dbt = means_over_seeds(runs)
    assert (hdkd.title, hdkd.runs, hdkd.split, hdkd.setting) == ("HDKD", 2, "test", "")
    assert hdkd.mean == pytest.approx([34.5, 40.5, 35.5])
    assert hdkd.deviation == pytest.approx([0, stdev([40, 41]), 0])
    assert (dbt.title, dbt.mean) == ("DBT", pytest.approx([34.5, 35, 35.5]))
    assert means_over_seeds(runs[1:3]) == []  # one run of each method
    assert means_over_seeds([*runs, runs[0]]) == [hdkd, dbt]  # a seed counts once
    assert means_over_seeds([runs[0], runs[0]]) == []


def test_charts_show_what_was_evaluated(runs):
    [curve] = budget_curves(runs).data
    assert (curve.name, curve.x, curve.y) == ("hdkd0", (10, 20), (60, 70))
    raw, calibrated = calibration(runs).data
    assert raw.y == pytest.approx((30, 20, 10))
    assert calibrated.y == pytest.approx((3, 2, 1))
    assert budget_curves(runs[1:]) is None
    assert calibration(runs[1:]) is None


def test_page_has_them(runs):
    text = render(runs)
    assert "± 0.71" in text
    assert text.count("Accuracy under a budget (early exit)") == 2  # the comparison, and its run
