"""Raw results: from a run's folder to the CSV and back, and on to runs that build on them."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace

import pytest
from made_up import SMALL, no_settings, record
from recorded_run import record_run, settings

from hdkd_dist.paper.records import (
    CURVE,
    lay_out,
    nested,
    read_records,
    record_of,
    to_values,
    write_records,
)
from hdkd_dist.paper.studies import plain
from hdkd_dist.runs.gamma_curve import read_sum_curve
from hdkd_dist.runs.metrics import read_metrics
from hdkd_dist.training.gamma import learned_weights

BENCH = SMALL.benches["cifar100"]
TRIAL = plain(SMALL, BENCH, 150, "hdkd", no_settings)


def test_results_become_a_row_and_back():
    tree = {"a": [{"b": 1, "c": [0.5, 2.0]}, {"b": 3, "c": [4.0, 5.0]}], "d": "word"}
    row = to_values(tree)
    assert row["a.2.c.1"] == 4.0
    assert nested(row) == tree
    ten = {"a": list(range(12))}
    assert nested(to_values(ten)) == ten


def test_what_is_written_is_read(tmp_path):
    one = record(TRIAL, [10.0, 20.0, 30.0, 40.25], [15.5, 16.5])
    two = record(TRIAL.with_seed(1), [1 / 3] * 4)
    write_records({one.name: one, two.name: two}, tmp_path, "small")
    found = read_records(tmp_path, "small")
    assert found[one.name] == one
    assert found[two.name].exits("top1") == [0.333333] * 4
    with (tmp_path / "small.csv").open() as lines:
        assert [row["name"] for row in csv.DictReader(lines)] == [one.name, two.name]


def test_a_finished_run_becomes_a_record(tmp_path):
    folder = record_run(
        tmp_path / "run", settings(schedule={"epochs": 100, "base_lr": 0.1, "base_batch": 8})
    )
    found = record_of(TRIAL, folder, "0123")
    results = json.loads((folder / "results.json").read_text())
    assert found.exits("val_top1") == [row["val_top1"] for row in results["exits"]]
    assert len(found.curve) <= CURVE
    changed = record_of(replace(TRIAL, variant="alpha0.1"), folder, "0123")
    assert changed.curve == []
    assert changed.values == found.values
    assert found.curve[-1]["step"] == 400
    assert found.curve[-1]["gamma_sum_ratio"] == pytest.approx(
        results["gamma"]["sum_ratio"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("hardware", "device"),
    [
        ({"device": "cuda:0", "name": "NVIDIA H200"}, "NVIDIA H200"),
        ({"device": "cpu", "threads": 1}, "cpu"),
    ],
)
def test_what_has_trained_it_is_kept(tmp_path, hardware, device):
    folder = record_run(tmp_path / "run")
    results = json.loads((folder / "results.json").read_text()) | {"hardware": hardware}
    (folder / "results.json").write_text(json.dumps(results))
    assert record_of(TRIAL, folder, "").device == device


def test_how_far_training_went_is_kept(tmp_path):
    folder = record_run(tmp_path / "run")  # 12 steps, recorded every 2; see there
    values = record_of(TRIAL, folder, "").values
    assert [values[f"train.top1.{k}"] for k in (1, 2, 3)] == [120.0] * 3
    assert [values[f"train.ce.{k}"] for k in (1, 2, 3)] == pytest.approx(
        [1 / (12 + k) for k in range(3)], rel=1e-5
    )
    assert (values["train.gradient_norm.mean"], values["train.gradient_norm.last"]) == (1.5, 1.5)
    ratios = [
        event["gamma_sum_ratio"] for event in read_metrics(folder) if event["event"] == "step"
    ]
    assert values["gamma.mean_sum_ratio"] == pytest.approx(sum(ratios) / 6, rel=1e-5)
    assert values["gamma.sum_ratio"] == pytest.approx(ratios[-1], rel=1e-5)


def test_rows_and_runs_from_before_are_read(tmp_path):
    old = record(TRIAL, [10.0] * 4)
    write_records({old.name: old}, tmp_path, "small")
    assert read_records(tmp_path, "small") == {old.name: old}
    assert not old.has_extra
    folder = record_run(tmp_path / "run")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    events = [
        {key: v for key, v in json.loads(line).items() if key != "gradient_norm"} for line in lines
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert not [key for key in record_of(TRIAL, folder, "").values if "gradient_norm" in key]


def test_the_split_extra_is_kept_where_it_was_measured(tmp_path):
    one = record(TRIAL, [40.0] * 4, extra=[30.0] * 4)
    two = record(TRIAL.with_seed(1), [40.0] * 4)
    write_records({one.name: one, two.name: two}, tmp_path, "small")
    found = read_records(tmp_path, "small")
    assert found == {one.name: one, two.name: two}
    assert (found[one.name].has_extra, found[two.name].has_extra) == (True, False)
    assert found[two.name].held_out("top1", with_extra=False) == [40.0] * 4


def test_another_run_can_build_on_what_was_kept(tmp_path):
    lay_out(record(TRIAL, [1.0] * 4), tmp_path / "source")
    assert learned_weights(tmp_path / "source", 4).tolist() == [1.5] * 4 + [0.25] * 6
    assert read_sum_curve(tmp_path / "source").at(5) == pytest.approx(1.1)


def fifo(file):
    file.unlink()
    os.mkfifo(file)


def folder(file):
    file.unlink()
    file.mkdir()


DAMAGES = {
    "empty": lambda file: file.write_text(""),
    "zeros": lambda file: file.write_bytes(bytes(100)),
    "not UTF-8": lambda file: file.write_bytes(b"name,\xff\n"),
    "a cell too many": lambda file: file.write_text(file.read_text().rstrip() + ",7\n"),
    "cut off": lambda file: file.write_text(file.read_text()[: len(file.read_text()) // 2]),
    "no identity": lambda file: file.write_text(file.read_text().replace("identity", "id")),
    "not finite": lambda file: file.write_text(file.read_text().replace("0.123", "nan")),
    "a pipe": fifo,
    "a folder": folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_results_are_named_in_one_line(tmp_path, damage):
    plain_run = record(TRIAL, [50.0] * 4)
    kept = replace(plain_run, values={**plain_run.values, "figure": 0.123})
    write_records({kept.name: kept}, tmp_path, "small")
    DAMAGES[damage](tmp_path / "small.csv")
    with pytest.raises(ValueError, match=r"^[^\n]*(small\.csv|collected result)[^\n]*$"):
        read_records(tmp_path, "small")
