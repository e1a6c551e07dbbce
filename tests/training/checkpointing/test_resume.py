"""Where a run begins, and what may differ when it goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_files import write

from hdkd_dist.config.load import load_config
from hdkd_dist.data.manifest import Manifest, Split
from hdkd_dist.runs.folder import WEIGHTS, checkpoints_in
from hdkd_dist.training.checkpointing import files
from hdkd_dist.training.checkpointing.files import read_checkpoint
from hdkd_dist.training.checkpointing.resume import (
    Start,
    check_fit,
    continue_folder,
    continue_metrics,
    find_start,
)

CONTENT = {
    "train_batch_size": 64,
    "optimizer": {"type": "SGD", "params": {"momentum": 0.9}},
    "hdkd": {
        "model": {"preset": "msdnet-digits"},
        "schedule": {"epochs": 3, "base_lr": 0.1, "base_batch": 64},
    },
}
SPLIT = Split("train.beton", 10, 10, "abc", (10,))
MANIFEST = Manifest(None, "noise", {}, ("a",), {}, {}, {"train": SPLIT})


def configuration(folder, **overrides):
    file = folder / "given.json"
    file.write_text(json.dumps(CONTENT))
    return load_config(file, {key.replace("__", "."): v for key, v in overrides.items()}, 1)


@pytest.fixture
def run(tmp_path):
    """A run's folder with two checkpoints and the records of more steps than they hold."""
    folder = tmp_path / "run"
    config = configuration(tmp_path).as_json()
    for step in (4, 8):
        found = write(folder / "checkpoints", step)
        partial = replace(found, config=config, folder=folder / "checkpoints" / "other")
        files.remove(found.folder)
        files.start_writing(partial.folder)
        files.complete(replace(partial, files={}))
        partial.folder.rename(found.folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text(
        "".join(f'{{"event": "step", "step": {n}}}\n' for n in range(12))
    )
    return folder


def start(run, resume="auto", changed=False, manifest=MANIFEST, **overrides):
    return find_start(run, resume, changed, configuration(run.parent, **overrides), manifest)


def test_auto_goes_on_from_the_newest_and_begins_where_nothing_is(run, tmp_path):
    newest = run / "checkpoints/step-00000008"
    assert start(run) == Start(newest, 1, in_place=True)
    assert start(run, "never") == Start()
    assert start(tmp_path / "elsewhere") == Start()


def test_run_that_was_killed_before_its_first_checkpoint_begins_in_place(run, capsys):
    for folder in checkpoints_in(run / "checkpoints"):
        files.remove(folder)
    assert start(run) == Start(in_place=True)
    assert "has no checkpoint yet: it starts from the beginning" in capsys.readouterr().out
    continue_metrics(run, Start(in_place=True), 0)
    assert not (run / "metrics.jsonl").exists()


def test_path_of_a_checkpoint_or_of_a_run(run, tmp_path):
    older = run / "checkpoints/step-00000004"
    assert start(run, str(older)) == Start(older, 1, in_place=True)
    branch = tmp_path / "branch"
    assert start(branch, str(run)) == Start(run / "checkpoints/step-00000008", 1)
    assert start(run, str(run / "checkpoints")).checkpoint == run / "checkpoints/step-00000008"
    (run / "checkpoints/best").write_text("step-00000004")
    assert start(run, str(run / "checkpoints/best")) == Start(older, 1, in_place=True)
    (run / "checkpoints/latest").write_text("step-00000012")
    for wrong in ("nowhere", str(run / "checkpoints/latest"), str(tmp_path)):
        with pytest.raises(ValueError, match=r"there is no such folder|damaged"):
            start(run, wrong)


@pytest.mark.parametrize("lost", ["config.json", "metrics.jsonl", "results.json"])
def test_no_single_file_tells_whether_a_run_is_there(run, lost, tmp_path):
    """Its configuration is in its checkpoints, too: it goes on, and never begins in silence."""
    (run / lost).unlink(missing_ok=True)
    assert start(run) == Start(run / "checkpoints/step-00000008", 1, in_place=True)
    with pytest.raises(ValueError, match=r"hdkd.gamma.lr None → 0.5; go on all the same with"):
        start(run, hdkd__gamma__lr=0.5)


@pytest.mark.parametrize("left", ["metrics.jsonl", "results.json", str(WEIGHTS)])
def test_what_is_left_without_configuration_and_checkpoints_is_not_overwritten(tmp_path, left):
    (tmp_path / "run" / left).parent.mkdir(parents=True)
    (tmp_path / "run" / left).write_text("{}")
    with pytest.raises(ValueError, match=rf"holds {left} of an earlier run, .*--resume never"):
        start(tmp_path / "run")
    assert start(tmp_path / "run", "never") == Start()


def test_finished_run_has_nothing_left_to_do(run):
    (run / "results.json").write_text("{}")
    assert not start(run).finished
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "end", "step": 12}\n')
    assert start(run).finished
    more = {"hdkd__schedule__epochs": 9}
    with pytest.raises(ValueError, match=r"schedule\.epochs 3 → 9; go on all the same with"):
        start(run, **more)
    assert start(run, changed=True, **more) == Start(
        run / "checkpoints/step-00000008", 1, changed=True, in_place=True
    )


def test_all_differences_are_listed(run):
    with pytest.raises(ValueError, match="the configuration has changed") as caught:
        start(run, hdkd__gamma__lr=0.5, optimizer__params__momentum=0.8)
    message = str(caught.value)
    assert "hdkd.gamma.lr None → 0.5; optimizer.params.momentum 0.9 → 0.8; go on" in message
    assert "\n" not in message


def test_finished_run_stays_finished_without_its_checkpoints(run):
    for folder in checkpoints_in(run / "checkpoints"):
        files.remove(folder)
    (run / "results.json").write_text("{}")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "end", "step": 12}\n')
    assert start(run) == Start(finished=True)
    with pytest.raises(ValueError, match=r"another configuration.*gamma\.lr None → 0.5.*--out"):
        start(run, hdkd__gamma__lr=0.5)
    assert start(run, "never") == Start()


def test_checkpoint_without_the_records_of_its_run_is_refused(run, tmp_path):
    alone = tmp_path / "backup/checkpoints/step-00000004"
    alone.parent.mkdir(parents=True)
    (run / "checkpoints/step-00000004").rename(alone)
    with pytest.raises(ValueError, match=r"there is no .*backup/metrics\.jsonl"):
        start(tmp_path / "new", str(alone))
    (run / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=r"is shorter than at the checkpoint \(0 instead of 5 "):
        continue_metrics(run, start(run), 5)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"hdkd__loss__temperature": 5.0}, "hdkd.loss.temperature 3.0 → 5.0"),
        ({"hdkd__gamma__init": "random"}, "hdkd.gamma.init 'ds_like' → 'random'"),
        ({"train_batch_size": 32}, "train_batch_size 64 → 32"),
        ({"hdkd__run__seed": 1}, "hdkd.run.seed 0 → 1"),
        ({"hdkd__method": "dbt"}, "hdkd.method 'hdkd' → 'dbt'"),
        ({"hdkd__model__overrides": {"growth": 8}}, "hdkd.model.overrides"),
        ({"zero_optimization": {"stage": 1}}, "zero_optimization.stage None → 1"),
    ],
)
def test_what_cannot_change_is_refused_in_any_case(run, overrides, named):
    with pytest.raises(ValueError, match="this cannot change within a run") as caught:
        start(run, changed=True, **overrides)
    assert named in str(caught.value)


@pytest.mark.parametrize("stage", [0, 1])
def test_clipping_of_a_sharded_optimizer_cannot_change(run, stage):
    given = {"zero_optimization": {"stage": stage}, "hdkd__gamma__lookahead": "lookahead"}
    before = configuration(run.parent, **given)
    found = replace(read_checkpoint(run / "checkpoints/step-00000008"), config=before.as_json())
    clipped = configuration(run.parent, gradient_clipping=1.0, **given)
    assert not check_fit(found, before, MANIFEST, resume_changed=False)
    if stage == 0:
        assert check_fit(found, clipped, MANIFEST, resume_changed=True)
        return
    with pytest.raises(ValueError, match=r"gradient_clipping None → 1\.0: this cannot change"):
        check_fit(found, clipped, MANIFEST, resume_changed=True)


def test_how_machines_do_the_work_may_change(run):
    found = start(
        run,
        gradient_accumulation_steps=4,
        hdkd__data__workers=3,
        hdkd__data__path="elsewhere",
        hdkd__checkpoint__keep=9,
        hdkd__run__wandb="disabled",
    )
    assert found == Start(run / "checkpoints/step-00000008", 1, in_place=True)


def test_other_data_and_other_ranks_under_zero_are_refused(run, monkeypatch):
    other = replace(MANIFEST, folder=run, splits={"train": replace(SPLIT, sha256="xyz")})
    with pytest.raises(ValueError, match="it was trained on other data"):
        start(run, manifest=other)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert start(run).world_size == 1
    with pytest.raises(
        ValueError, match=r"on 2 rank\(s\): 1 wrote it, and ZeRO stage 2 has divided"
    ):
        start(run, zero_optimization={"stage": 2})


def test_folder_is_put_back_to_its_checkpoint(run):
    older = Start(run / "checkpoints/step-00000004", 1, in_place=True)
    (run / "results.json").write_text("{}")  # of an earlier end
    continue_folder(run, older)
    assert not (run / "results.json").exists()
    names = [path.name for path in checkpoints_in(run / "checkpoints")]
    assert names == ["step-00000004"]
    assert (run / "checkpoints/step-00000008.aside-1").exists()
    size = len('{"event": "step", "step": 0}\n') * 5
    continue_metrics(run, older, size)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 5
    with pytest.raises(ValueError, match="is shorter than at the checkpoint"):
        continue_metrics(run, older, size + 1)
    assert read_checkpoint(older.checkpoint).step == 4
