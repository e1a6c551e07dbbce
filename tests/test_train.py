"""Training end to end, as a user starts it."""

from __future__ import annotations

import json
import re

import pytest
import torch
from runs import call, deepspeed, write_config
from safetensors.torch import load_file

from hdkd_dist.training.tracking import read_metrics

WEIGHTS = "checkpoints/final/model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def finished(folder):
    """HDKD on the digits through the launcher, with W&B offline; the run's folder and output."""
    words = ["--ds_config", write_config(folder), "--out", "runs/one"]
    settings = ["--set", "hdkd.run.wandb=offline", "--set", "gradient_accumulation_steps=2"]
    done = call("hdkd_dist/train.py", *words, *settings, cwd=folder, launcher=deepspeed(1))
    assert done.returncode == 0, done.stderr
    return folder / "runs/one", done


def load(run):
    return json.loads((run / "results.json").read_text())


def test_results_are_complete(finished):
    results = load(finished[0])
    identity = {key: results[key] for key in ("method", "dataset", "preset", "seed", "world_size")}
    assert identity == {
        "method": "hdkd",
        "dataset": "digits",
        "preset": "msdnet-digits",
        "seed": 0,
        "world_size": 1,
    }
    assert [row["exit"] for row in results["exits"]] == [1, 2, 3]
    keys = {"exit", "mmac", "params", "val_top1", "val_top5", "top1", "top5"}
    for row in results["exits"]:
        assert set(row) == keys
        assert 20 < row["top1"] <= row["top5"] <= 100  # ten classes: chance is 10
        assert row["top1"] * 4 == pytest.approx(round(row["top1"] * 4))  # of 400 images
    assert [row["mmac"] for row in results["exits"]] == sorted(
        row["mmac"] for row in results["exits"]
    )
    gamma = results["gamma"]
    assert gamma["initial"]["ce"] == [1, 1, 1]
    assert gamma["initial"]["kd"] == [[0, 0, 0], [0.5, 0, 0], [0.5, 1, 0]]
    moved = torch.tensor(gamma["kd"]) - torch.tensor(gamma["initial"]["kd"])
    assert moved.abs().max() > 0.01
    total = sum(gamma["ce"]) + sum(map(sum, gamma["kd"]))
    assert gamma["sum_ratio"] == pytest.approx(total / 5)
    assert results["train"]["steps"] == 2 * 17
    assert results["train"]["seconds"] > 0
    assert 0 <= results["train"]["wait_fraction"] <= 1


def test_metrics_tell_what_happened(finished):
    events = read_metrics(finished[0])
    steps = [event for event in events if event["event"] == "step"]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["step"] for event in steps] == [5, 10, 15, 17, 20, 25, 30, 34]
    assert [event["step"] for event in epochs] == [17, 34]
    names = ["ce_1", "ce_2", "ce_3", "kd_2_to_1", "kd_3_to_1", "kd_3_to_2"]
    exits = ["exit_1", "exit_2", "exit_3"]
    expected = {f"loss/{name}" for name in names} | {f"gamma/{name}" for name in names}
    expected |= {f"{group}/{e}" for group in ("train/top1", "average_ce") for e in exits}
    expected |= {
        "lr",
        "temperature",
        "gamma_sum_ratio",
        "hypergradient_norm",
        "epoch",
        "step",
        "rank_drift",
    }
    expected |= {"images_per_s", "wait_fraction", "peak_memory_mb", "event"}
    assert set(steps[0]) == expected
    assert {f"val/{top}/{e}" for top in ("top1", "top5") for e in exits} <= set(epochs[0])
    assert steps[-1]["loss/ce_3"] < steps[0]["loss/ce_3"]
    assert steps[-1]["hypergradient_norm"] > 0
    results = load(finished[0])
    assert steps[-1]["gamma/ce_1"] == results["gamma"]["ce"][0]
    assert epochs[-1]["val/top1/exit_3"] == results["exits"][2]["val_top1"]


def test_run_folder_has_configuration_pictures_and_offline_wandb(finished):
    run, done = finished
    config = json.loads((run / "config.json").read_text())
    assert config["gradient_accumulation_steps"] == 2
    assert config["train_micro_batch_size_per_gpu"] == 32
    assert config["hdkd"]["gamma"]["alpha"] == 0.5  # the defaults are written out
    for name in ("accuracy_vs_mmac.png", "gamma_over_time.png"):
        assert (run / "figures" / name).read_bytes().startswith(b"\x89PNG")
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert re.search(r"exit +MMAC +parameters +val top-1 .* test top-1", done.stdout)


def test_evaluation_of_the_checkpoint_gives_the_same_numbers(finished, folder):
    run, _ = finished
    before = load(run)
    (run / "results.json").write_text(json.dumps({**before, "exits": [], "later": 1}))
    done = call("hdkd_dist/evaluate.py", "--run", run, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert load(run) == {**before, "later": 1}


def test_two_ranks_train_what_one_trains(finished, folder):
    """The global batch, its order and its shards are the same, so the run is, up to rounding."""
    run, _ = finished
    words = ["--ds_config", write_config(folder), "--out", "runs/two"]
    done = call("hdkd_dist/train.py", *words, cwd=folder, launcher=deepspeed(2))
    assert done.returncode == 0, done.stderr
    two = load(folder / "runs/two")
    assert two["world_size"] == 2
    first = [
        next(event for event in read_metrics(folder / "runs" / name) if event["step"] == 5)
        for name in ("one", "two")
    ]
    for key in ("loss/ce_1", "loss/kd_3_to_1", "train/top1/exit_2"):
        assert first[0][key] == pytest.approx(first[1][key], rel=1e-3), key
    drifts = [e["rank_drift"] for e in read_metrics(folder / "runs/two") if e["event"] == "step"]
    assert drifts == [0.0] * 8  # γ, E_k and T were equal to the bit on both ranks, at every step
    assert all(row["top1"] > 20 for row in two["exits"])  # 30 steps on, rounding has grown
    assert set(load_file(run / WEIGHTS)) == set(load_file(folder / "runs/two" / WEIGHTS))


def test_same_seed_same_run_and_an_earlier_run_is_kept(folder):
    words = ["--ds_config", write_config(folder), "--out", "runs/again", "--epochs", "1"]
    for _ in range(2):
        done = call("hdkd_dist/train.py", *words, "--method", "hmsdnet", cwd=folder)
        assert done.returncode == 0, done.stderr
    assert "held an earlier run, which is now runs/again.old-1" in done.stdout
    runs = [folder / "runs" / name / WEIGHTS for name in ("again.old-1", "again")]
    first, second = map(load_file, runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_divergence_ends_the_run_with_one_line(folder):
    words = ["--ds_config", write_config(folder), "--out", "runs/diverged", "--epochs", "1"]
    settings = ["--method", "impr", "--set", "hdkd.schedule.base_lr=1e12"]
    done = call("hdkd_dist/train.py", *words, *settings, cwd=folder)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert re.search(r"(loss|weight γ of) \w+ is not finite at step \d+ on rank 0: lower", lines[0])
    assert "Traceback" not in done.stderr
    assert not (folder / "runs/diverged" / WEIGHTS).exists()
