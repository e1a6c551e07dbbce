"""``results.json``: its schema, its writer, and tables for the console."""

from __future__ import annotations

import json

import pytest
import torch
from recorded_run import record_run

from hdkd_dist.models import ExitCosts
from hdkd_dist.runs.results import (
    Results,
    budget_table,
    exit_rows,
    read_results,
    update_results,
)
from hdkd_dist.runs.schema import first_fault


def test_what_training_leaves_is_as_the_schema_states(tmp_path):
    results = read_results(record_run(tmp_path / "run"))
    assert first_fault(results, Results) is None
    assert results["exits"][1]["top1"] == pytest.approx(35)


def test_keys_are_added_and_none_is_dropped(tmp_path):
    assert read_results(tmp_path) == {}
    update_results(tmp_path, {"method": "hdkd", "seed": 1})
    update_results(tmp_path, {"seed": 2})
    assert json.loads((tmp_path / "results.json").read_text()) == {"method": "hdkd", "seed": 2}
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"is damaged .it holds no JSON object.: move it away"):
        update_results(tmp_path, {"seed": 3})


def test_rows_are_in_percent_and_lack_a_test_that_was_not_made():
    counts = torch.tensor([[1, 2], [3, 4], [4, 4]])
    first, second = exit_rows(ExitCosts([1.5, 2.5], [10, 20]), counts, None)
    assert first == {"exit": 1, "mmac": 1.5, "params": 10, "val_top1": 25.0, "val_top5": 75.0}
    assert second["val_top5"] == 100.0


def test_networks_of_different_depths_share_a_table():
    row = {"budget_mmac": 1.0, "mmac": 1.0, "val_top1": 50.0, "top1": 50.0, "top5": 80.0}
    deep = {**row, "network": "deep", "thresholds": [0.5, 0.25, 2.0, 0.0]}
    shallow = {**row, "network": "shallow", "thresholds": [0.75, 0.0]}
    for rows in ([deep, shallow], [shallow, deep]):
        header, *lines = budget_table(rows).splitlines()
        assert header.split()[-3:] == ["t1", "t2", "t3"]
        by_name = {line.split()[1]: line.split()[6:] for line in lines}
        assert by_name == {"deep": ["0.500", "0.250", "-"], "shallow": ["0.750"]}
