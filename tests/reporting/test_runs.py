"""What a report reads of runs."""

from __future__ import annotations

import html
import json
from statistics import median

import pytest
from recorded_run import record_run, settings

from hdkd_dist.reporting import page
from hdkd_dist.reporting.runs import comparable, differences, read_runs


def load(folder):
    return json.loads((folder / "results.json").read_text())


def test_finished_run(tmp_path):
    folder = record_run(tmp_path / "one")
    [run] = read_runs([folder])
    results = load(folder)
    assert (run.name, run.title, run.data, run.preset) == ("one", "HDKD", "digits", "msdnet-digits")
    assert run.progress == "finished"
    assert run.validation == pytest.approx([35, 35.5, 36])  # 70, 71, 72 of 200
    assert run.test == pytest.approx([34.5, 35, 35.5])
    assert run.sum_ratio == pytest.approx(results["gamma"]["sum_ratio"])
    recorded = [event["images_per_s"] for event in run.steps]
    assert run.speed("images_per_s") == median(recorded) != 123  # 123: with the reader's start
    assert run.hours == 2
    assert run.learns
    assert run.gamma_start["gamma/kd_3_to_1"] == 1
    assert run.notes == []


def test_unfinished_run(tmp_path):
    folder = record_run(tmp_path / "one", finished=False)
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:7]) + lines[7][:40])  # in the middle of the third epoch
    [run] = read_runs([folder])
    assert not run.finished
    assert run.progress == "epoch 3 of 3, step 10"
    assert run.validation == pytest.approx([30, 30.5, 31])
    assert run.test == []
    assert run.hours is None
    assert run.num_exits == 3
    assert run.speed("wait_fraction") == 0
    assert run.gamma_start["gamma/ce_2"] == pytest.approx(1.04)  # at the first record, step 2
    assert run.notes == ["1 line(s) of metrics.jsonl are cut or damaged"]


def test_speed_of_a_run_too_short_for_a_record_is_that_of_the_whole(tmp_path):
    folder = record_run(tmp_path / "one")
    metrics = folder / "metrics.jsonl"
    kept = [line for line in metrics.read_text().splitlines() if "images_per_s" not in line]
    metrics.write_text("\n".join(kept) + "\n")
    [run] = read_runs([folder])
    assert run.speed("images_per_s") == 123
    assert run.speed("wait_fraction") == 0.25


def test_run_without_any_record(tmp_path):
    folder = record_run(tmp_path / "one", finished=False)
    (folder / "metrics.jsonl").write_text("")
    [run] = read_runs([folder])
    assert (run.progress, run.num_exits, run.sum_ratio) == ("no record yet", 0, None)
    assert not run.learns


def test_missing_and_damaged_files_are_noted(tmp_path):
    folder = record_run(tmp_path / "one")
    (folder / "config.json").unlink()
    (folder / "results.json").write_text('{"exits": [')
    [run] = read_runs([folder])
    assert run.notes[0] == "config.json is missing"
    assert run.notes[1].startswith("results.json cannot be read")
    assert run.validation == pytest.approx([35, 35.5, 36])


FAULTS = {
    "a list": ("results.json", lambda _: [1], "the file is not an object"),
    "rows of another version": (
        "results.json",
        lambda r: {**r, "exits": [{"top1": 9}]},
        "exits.0.exit is missing",
    ),
    "no rows": ("results.json", lambda r: {**r, "exits": None}, "exits is not a list"),
    "a word": (
        "results.json",
        lambda r: {**r, "train": {**r["train"], "seconds": "long"}},
        "train.seconds is not a finite number",
    ),
    "gamma of others": (
        "results.json",
        lambda r: {**r, "gamma": {**r["gamma"], "initial": {"ce": [1], "kd": [[0]]}}},
        "gamma is not that of 3 exits",
    ),
    "no section": ("config.json", lambda _: {"hdkd": None}, "hdkd"),
    "no run": ("config.json", lambda _: {"hdkd": {"run": None}}, "hdkd.run"),
    "another section": ("config.json", lambda _: {"hdkd": {"model": ["x"]}}, "hdkd.model"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_of_another_structure_are_noted_and_left_out(tmp_path, fault):
    name, change, place = FAULTS[fault]
    folder = record_run(tmp_path / "one")
    file = folder / name
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    [run] = read_runs([folder])
    [note] = run.notes
    assert note.startswith(f"{name} is damaged or of another version (")
    assert place in note
    assert run.validation == pytest.approx([35, 35.5, 36])  # as metrics.jsonl has it
    assert note in html.unescape(page.render([run]))


def test_records_that_are_no_measurements_are_noted_and_left_out(tmp_path):
    folder = record_run(tmp_path / "one", finished=False)
    metrics = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    lines[0]["gamma/ce_1"], lines[1]["loss/ce_1"] = None, "low"
    del lines[-1]["epoch"]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    [run] = read_runs([folder])
    assert run.notes == ["2 line(s) of metrics.jsonl are cut or damaged"]
    assert [event["step"] for event in run.steps] == [6, 8, 10, 12]
    assert len(run.epochs) == 2
    page.render([run])


def test_strangers_do_not_keep_the_others_from_the_page(tmp_path):
    good = record_run(tmp_path / "good")
    diverged = record_run(tmp_path / "diverged", finished=False)
    with (diverged / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "step": 14, "loss/ce_1": NaN}\n')
        file.write(f'{{"event": "step", "step": 16, "loss/ce_1": 1{400 * "0"}}}\n')
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    events = [
        {"event": "step", "step": 1, "loss/total": 0.5, "gamma/x": 1, "train/top1/all": 3},
        {"event": "epoch", "step": 1, "epoch": 0, "val/top1/mean": 0.4},
    ]
    (foreign / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in events))
    other = record_run(tmp_path / "other")
    results = json.loads((other / "results.json").read_text())
    cut = {key: results[key] for key in results if key != "gamma"}
    cut["exits"] = results["exits"][:1]
    (other / "results.json").write_text(json.dumps(cut))
    runs = read_runs([good, diverged, foreign, other])
    notes = {run.name: list(run.notes) for run in runs}
    assert notes == {
        "good": [],
        "diverged": ["2 line(s) of metrics.jsonl are cut or damaged"],
        "foreign": ["config.json is missing"],
        "other": ["results.json is not of the network of metrics.jsonl, of 3 exits: left out"],
    }
    assert "good" in page.render(runs)


def test_run_that_may_not_be_read_is_noted(tmp_path):
    folder = record_run(tmp_path / "one")
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()  # the superuser may read everything but that
    [run] = read_runs([folder])
    assert run.notes == ["metrics.jsonl cannot be read (no regular file)"]
    assert run.finished
    page.render([run])


def test_fixed_weights_do_not_learn(tmp_path):
    [run] = read_runs([record_run(tmp_path / "one", settings("naive_dkd"))])
    assert not run.learns
    assert run.sum_ratio == 1


def test_names_tell_runs_apart(tmp_path):
    folders = [record_run(tmp_path / place / "run", settings("msdnet")) for place in ("a", "b")]
    assert [run.name for run in read_runs(folders)] == ["a/run", "b/run"]


def test_only_settings_that_differ(tmp_path):
    chosen = {
        "one": settings(),
        "two": settings("msdnet", run={"wandb": "disabled", "seed": 3, "out": "elsewhere"}),
        "three": settings(model={"preset": "msdnet-digits", "overrides": {"growth": 2}}),
    }
    runs = read_runs([record_run(tmp_path / name, given) for name, given in chosen.items()])
    assert differences(runs) == {
        "hdkd.method": ["hdkd", "msdnet", "hdkd"],
        "hdkd.run.seed": ["0", "3", "0"],
        "hdkd.model.overrides.growth": ["–", "–", "2"],
    }
    assert differences(runs[:1]) == {}


def test_runs_of_one_task_are_compared(tmp_path):
    other = settings(model={"preset": "msdnet-cifar-small"}, data={"path": "/data/cifar100-150/"})
    runs = read_runs(
        [
            record_run(tmp_path / "a"),
            record_run(tmp_path / "b", other, exits=4),
            record_run(tmp_path / "c", settings("hdbt"), finished=False),
        ]
    )
    assert {
        title: [run.name for run in members] for title, members in comparable(runs).items()
    } == {"msdnet-digits on digits": ["a", "c"]}
