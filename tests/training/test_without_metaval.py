"""Data without a meta-validation split: fixed methods train on all of it, γ cannot be learned."""

from __future__ import annotations

import json

import pytest
from entry_points import call, write_config
from safetensors.torch import load_file

from hdkd_dist import train
from hdkd_dist.config.load import load_config
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.evaluation.evaluate_run import Options, check_request
from hdkd_dist.runs.metrics import read_metrics


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("all_images")
    prepare_digits(folder / "whole", metaval_per_class=0)
    write_config(folder)
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    words = ["--ds_config", "small.json", "--data", "whole", "--epochs", "1", "--out", "run"]
    words += ["--method", "naive_dkd", "--set", "hdkd.model.ema_decay=0.9"]
    run = call("hdkd_dist/train.py", *words, cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "measured and saved: the weights' average with decay 0.9" in run.stdout
    return folder / "run"


def test_a_fixed_method_trains_on_all_images_and_is_tested(finished):
    manifest = json.loads((finished / "manifest.json").read_text())
    results = json.loads((finished / "results.json").read_text())

    assert sorted(manifest["splits"]) == ["test", "train"]
    assert manifest["splits"]["train"]["samples"] == 1397
    assert results["train"]["steps"] == 1397 // 64
    assert results["ema_decay"] == 0.9
    for row in results["exits"]:
        assert row["top1"] > 0
        assert not [name for name in row if name.startswith("val_")]
    assert {event["event"] for event in read_metrics(finished)} == {"step", "end"}
    assert (finished / "figures/accuracy_vs_mmac.png").stat().st_size > 0
    (checkpoint,) = (finished / "checkpoints").glob("step-*")
    assert not checkpoint.name.endswith("evaluated")
    assert load_file(finished / "checkpoints/final/model.safetensors")


def test_thresholds_cannot_be_found(finished, monkeypatch):
    monkeypatch.chdir(finished.parent)
    options = Options(None, 64, 1, "calibrated", 32, save_logits=False)
    with pytest.raises(ValueError, match=r"no validation split to find thresholds on .* --data"):
        check_request([finished], options, finished)


def test_a_method_that_learns_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    config = load_config("small.json", {"hdkd.data.path": "whole"}, world_size=1)
    message = "hdkd learns γ, but whole has no meta-validation split"
    with pytest.raises(ValueError, match=message):
        train.check_run(config, "never", False)

    words = ["--ds_config", "small.json", "--data", "whole", "--out", "learned"]
    run = call("hdkd_dist/train.py", *words, cwd=folder)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr
