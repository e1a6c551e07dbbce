"""A network in a file outside the package, through every command of the project."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from entry_points import ROOT, call, write_config
from PIL import Image
from safetensors.torch import load_file

from hdkd_dist import export, predict
from hdkd_dist.runs.metrics import read_metrics

FINAL = "checkpoints/final/model.safetensors"
OWN = [
    *("--set", "hdkd.model.factory=my_vit:build", "--set", "hdkd.model.input_size=16"),
    *("--set", 'hdkd.loss.terms={"my_losses:confidence": 0.1}'),
]
LOSSES = """
import torch

def confidence(logits, labels, temperature):
    return -torch.distributions.Categorical(logits=logits).entropy().mean()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    shutil.copyfile(ROOT / "examples" / "own_network.py", folder / "my_vit.py")
    (folder / "my_losses.py").write_text(LOSSES)
    write_config(folder)
    return folder


def words(out, *more):
    short = ["--set", "hdkd.checkpoint.every_steps=4", "--epochs", "1", "--test", "false"]
    return ["--ds_config", "small.json", "--out", out, *OWN, *short, *more]


@pytest.fixture(scope="module")
def peace(folder):
    run = call("hdkd_dist/train.py", *words("peace"), cwd=folder)
    assert run.returncode == 0, run.stderr
    return folder / "peace"


def test_it_trains_and_its_costs_are_counted(peace):
    results = json.loads((peace / "results.json").read_text())

    assert results["preset"] == "my_vit:build"
    mmac = [row["mmac"] for row in results["exits"]]
    assert mmac == sorted(mmac)
    # 16 tokens of width 48: patches; attention, perceptron and its ReLU; the head and its average.
    block = 16 * 48 * (4 * 48 + 2 * 96 + 2 * 16) + 16 * 96
    assert mmac[0] == pytest.approx((16 * 48 * 48 + block + 16 * 48 + 480) / 1e6)


def test_the_weight_of_a_loss_of_ones_own_is_learned_and_recorded(peace):
    gamma = json.loads((peace / "results.json").read_text())["gamma"]
    steps = [event for event in read_metrics(peace) if event["event"] == "step"]

    assert gamma["initial"]["terms"] == {"confidence": pytest.approx(0.1)}
    assert gamma["terms"] == {"confidence": pytest.approx(steps[-1]["gamma/confidence"])}
    assert gamma["terms"] != gamma["initial"]["terms"]
    assert steps[-1]["loss/confidence"] < 0, "an entropy, negated"


def test_killed_and_resumed_it_ends_with_the_same_weights(folder, peace):
    command = [sys.executable, str(ROOT / "hdkd_dist/train.py"), *words("trouble")]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 240
    while not list((folder / "trouble/checkpoints").glob("step-*/*.json")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "trouble" / FINAL).exists()

    run = call("hdkd_dist/train.py", *words("trouble", "--resume", "auto"), cwd=folder)

    assert run.returncode == 0, run.stderr
    assert "going on from trouble/checkpoints/step-" in run.stdout
    assert (folder / "trouble" / FINAL).read_bytes() == (peace / FINAL).read_bytes()


def test_it_is_evaluated_with_early_exit(folder, peace):
    run = call("hdkd_dist/evaluate.py", "--run", "peace", cwd=folder)

    assert run.returncode == 0, run.stderr
    results = json.loads((peace / "results.json").read_text())
    budgets = [row["budget_mmac"] for row in results["budgeted"]]
    assert budgets == sorted(budgets)
    assert results["exits"][0]["mmac"] <= budgets[0] < budgets[-1] <= results["exits"][-1]["mmac"]


@pytest.fixture
def exported(folder, peace, monkeypatch):
    """The evaluated run as a folder, and no trace of its code on the import path."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    if not (folder / "exported").exists():
        export.main("peace", "exported")
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    (folder / "images").mkdir(exist_ok=True)
    for place, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{place:02}.png")
    (folder / "elsewhere").mkdir(exist_ok=True)
    shutil.copyfile(folder / "my_vit.py", folder / "elsewhere" / "renamed_vit.py")
    sys.modules.pop("my_vit", None)
    sys.path.remove(str(folder))
    monkeypatch.chdir(folder / "elsewhere")
    yield folder
    sys.modules.pop("my_vit", None)


def predicted(folder, capsys, **options):
    capsys.readouterr()
    predict.main(folder / "exported", folder / "images", **options)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_exported_it_predicts_without_its_code_in_onnx_and_with_it_in_torch(exported, capsys):
    budget = json.loads((exported / "peace/results.json").read_text())["budgeted"][20]
    asked = {"budget_mmac": budget["budget_mmac"]}
    *onnx, summary = predicted(exported, capsys, **asked)
    assert summary["summary"]["runtime"] == "onnx"
    assert "my_vit" not in sys.modules

    with pytest.raises(ValueError, match=r"no module my_vit in .* name it with --factory"):
        predicted(exported, capsys, runtime="torch", **asked)
    *torch, summary = predicted(exported, capsys, factory="renamed_vit:build", **asked)
    assert summary["summary"]["runtime"] == "torch"

    assert len(onnx) == len(torch) == 20
    for one, other in zip(onnx, torch, strict=True):
        assert one.pop("confidence") == pytest.approx(other.pop("confidence"), abs=1e-4)
        assert one == other
    with pytest.raises(ValueError, match="the runtime onnx needs no factory"):
        predicted(exported, capsys, factory="renamed_vit:build", runtime="onnx", **asked)


def test_a_smaller_network_starts_from_it(folder, peace):
    fewer = ["--set", 'hdkd.model.kwargs={"depth": 2}', "--init_from", "peace"]
    rate = ["--set", "hdkd.schedule.base_lr=1e-12"]
    run = call("hdkd_dist/train.py", *words("tuned", *fewer, *rate), cwd=folder)

    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if "not in the network" in line]
    assert len(lines) == 1
    assert "blocks.2." in lines[0]
    tuned, before = load_file(folder / "tuned" / FINAL), load_file(peace / FINAL)
    assert set(tuned) < set(before)
    for name, value in tuned.items():
        assert (value - before[name]).abs().max() < 1e-6, name


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--init_from", "nowhere"], "--init_from nowhere does not exist"),
        (["--init_from", "my_vit.py"], "--init_from my_vit.py: not readable weights"),
        (["--method", "impr"], "takes no gradient_equilibrium"),
        (["--set", 'hdkd.model.kwargs={"depht": 2}'], "my_vit:build fails: TypeError"),
    ],
)
def test_faults_are_one_line(folder, more, message):
    run = call("hdkd_dist/train.py", *words("fault", *more), cwd=folder)

    assert run.returncode == 2
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error")]
    assert message in line
    assert "Traceback" not in run.stderr
