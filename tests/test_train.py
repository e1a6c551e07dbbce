"""Training end to end, as a user starts it."""

from __future__ import annotations

import json
import re

import pytest
import torch
from entry_points import call, call_ranks, launch, write_config
from safetensors.torch import load_file

from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.runs.metrics import read_metrics

WEIGHTS = "checkpoints/final/model.safetensors"
FFCV = ("--set", "hdkd.data.reader=ffcv")
ACCUMULATED = ("--set", "gradient_accumulation_steps=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def finished(folder):
    """HDKD on the digits, with W&B offline; the run's folder and output."""
    words = ["--ds_config", write_config(folder), "--out", "runs/one", *FFCV]
    settings = ["--set", "hdkd.run.wandb=offline", "--set", "hdkd.checkpoint.every_steps=20"]
    done = call("hdkd_dist/train.py", *words, *ACCUMULATED, *settings, cwd=folder)
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
    assert gamma["initial"]["kd"] == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    moved = torch.tensor(gamma["kd"]) - torch.tensor(gamma["initial"]["kd"])
    assert moved.abs().max() > 0.01
    total = sum(gamma["ce"]) + sum(map(sum, gamma["kd"]))
    assert gamma["sum_ratio"] == pytest.approx(total / 6)
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
        "gradient_norm",
        "hypergradient_norm",
        "epoch",
        "step",
    }
    expected |= {"images_per_s", "wait_fraction", "peak_memory_mb", "event"}
    assert set(steps[0]) == expected
    assert {f"val/{top}/{e}" for top in ("top1", "top5") for e in exits} <= set(epochs[0])
    assert steps[-1]["loss/ce_3"] < steps[0]["loss/ce_3"]
    assert steps[-1]["hypergradient_norm"] > 0
    assert steps[-1]["gradient_norm"] > 0
    results = load(finished[0])
    assert steps[-1]["gamma/ce_1"] == results["gamma"]["ce"][0]
    assert epochs[-1]["val/top1/exit_3"] == results["exits"][2]["val_top1"]
    assert events[-1]["event"] == "end"
    assert events[-1]["test/top1/exit_2"] == results["exits"][1]["top1"]


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
    after = load(run)
    assert {key: after[key] for key in before} == before
    assert after["later"] == 1
    assert len(after["budgeted"][0]["thresholds"]) == 3


def test_evaluation_on_other_data_leaves_the_results_alone(finished, folder):
    run, _ = finished
    before = load(run)
    prepare_digits(folder / "other", seed=5)
    done = call("hdkd_dist/evaluate.py", "--run", run, "--data", "other", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert load(run) == before


def test_from_the_midst_of_an_epoch_the_run_ends_as_it_did(finished, folder):
    run, _ = finished
    words = ["--ds_config", write_config(folder), "--out", "runs/resumed", *FFCV, *ACCUMULATED]
    middle = ["--resume", run / "checkpoints/step-00000020"]
    done = call("hdkd_dist/train.py", *words, *middle, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "runs/resumed" / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()


def test_two_ranks_train_what_one_trains(finished, folder):
    """The global batch, its order and its shards are the same, so the run is, up to rounding."""
    run, _ = finished
    words = ["--ds_config", write_config(folder), "--out", "runs/two", *FFCV]
    done = launch(2, "hdkd_dist/train.py", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    one, two = load(run), load(folder / "runs/two")
    assert two["world_size"] == 2
    first = [
        next(event for event in read_metrics(folder / "runs" / name) if event["step"] == 5)
        for name in ("one", "two")
    ]
    for key in ("loss/ce_1", "loss/kd_3_to_1", "train/top1/exit_2"):
        assert first[0][key] == pytest.approx(first[1][key], rel=1e-3), key
    digests = two["gamma"]["sha256_by_rank"]
    assert len(digests) == 2
    assert digests[0] == digests[1]
    for ours, theirs in zip(one["gamma"]["kd"], two["gamma"]["kd"], strict=True):
        assert ours == pytest.approx(theirs, abs=0.02)
    weights, others = load_file(run / WEIGHTS), load_file(folder / "runs/two" / WEIGHTS)
    assert set(weights) == set(others)
    for name, value in weights.items():
        if "running" not in name and "tracked" not in name:  # each rank has seen other shards
            torch.testing.assert_close(value, others[name], rtol=0.05, atol=0.05)


def test_weights_of_a_finished_run_can_be_fixed(finished, folder):
    """On two ranks, with an annealed temperature; a fault of all ranks is said once."""
    run, _ = finished
    words = ["--ds_config", write_config(folder), "--epochs", "1", "--out", "runs/fixed"]
    fixed = ["--set", f"hdkd.gamma.init=fixed:{run}", "--set", "hdkd.loss.temperature=anneal"]
    done = call_ranks(2, "hdkd_dist/train.py", *words, *fixed, cwd=folder)
    assert [rank.returncode for rank in done] == [0, 0], done
    gamma, source = load(folder / "runs/fixed")["gamma"], load(run)["gamma"]
    assert gamma["kd"] == gamma["initial"]["kd"] == source["kd"]
    steps = [e for e in read_metrics(folder / "runs/fixed") if e["event"] == "step"]
    assert all("hypergradient_norm" not in event for event in steps)
    assert steps[-1]["temperature"] >= 1

    done = call_ranks(2, "hdkd_dist/train.py", *words, *fixed, "--method", "hdbt", cwd=folder)
    assert [rank.returncode for rank in done] == [2, 2], done
    errors = [line for r in done for line in r.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "has weights that hdbt has not" in errors[0]


@pytest.fixture(scope="module")
def twice(folder):
    """The same command run two times; the folders of both runs, and what the second said."""
    words = ["--ds_config", write_config(folder), "--epochs", "1", "--out", "runs/again"]
    words += ["--method", "hmsdnet", "--set", "hdkd.gamma.every=4", "--set", "hdkd.run.log_every=1"]
    for _ in range(2):
        done = call("hdkd_dist/train.py", *words, cwd=folder)
        assert done.returncode == 0, done.stderr
    return [folder / "runs" / name for name in ("again.old-1", "again")], done.stdout


def test_gamma_can_learn_at_every_nth_step(twice):
    steps = [e for e in read_metrics(twice[0][1]) if e["event"] == "step"]
    learned = [event["step"] for event in steps if "hypergradient_norm" in event]
    assert learned == [1, 5, 9, 13, 17]
    values = [event["gamma/ce_1"] for event in steps]
    assert values[0] != 1
    assert values[0] == values[1] == values[3] != values[4]


def test_same_seed_same_run_and_an_earlier_run_is_kept(twice):
    runs, said = twice
    assert "held an earlier run, which is now runs/again.old-1" in said
    first, second = (load_file(run / WEIGHTS) for run in runs)
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
