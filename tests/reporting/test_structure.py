"""Files that a report can and cannot show."""

from __future__ import annotations

import json

import pytest
from recorded_run import record_run

from hdkd_dist.reporting.structure import config_fault, is_measured, read_object, results_fault


def test_what_a_run_leaves_can_be_shown(tmp_path):
    folder = record_run(tmp_path / "run")
    config, note = read_object(folder / "config.json", config_fault)
    assert config == json.loads((folder / "config.json").read_text())
    assert note is None
    assert read_object(folder / "results.json", results_fault)[1] is None
    assert read_object(folder / "absent.json", results_fault) == (None, None)


def test_parts_that_a_report_does_not_show_are_not_looked_at():
    assert results_fault({"exits": [], "budgeted": "of another version"}) is None
    assert config_fault({"hdkd": {"gamma": 3}, "optimizer": None}) is None


def test_gamma_is_that_of_as_many_exits():
    row = {"mmac": 1.0, "params": 1, "val_top1": 1.0, "val_top5": 1.0}
    start = {"ce": [1.0], "kd": [[0.0]]}
    results = {
        "exits": [{"exit": 1, **row}, {"exit": 2, **row}],
        "gamma": {**start, "initial": start, "sum_ratio": 1.0},
    }
    assert results_fault(results) == "gamma is not that of 2 exits"
    assert results_fault({**results, "exits": results["exits"][:1]}) is None


@pytest.mark.parametrize(("value", "measured"), [(1, True), (None, False), (float("nan"), False)])
def test_an_event_is_measured_if_all_its_values_are_numbers(value, measured):
    assert is_measured({"event": "step", "step": 1, "loss/ce_1": value}) == measured
