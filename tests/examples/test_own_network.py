"""A network in a file outside the package: trained, killed, resumed, evaluated, started from."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from entry_points import ROOT, call, write_config
from safetensors.torch import load_file

FINAL = "checkpoints/final/model.safetensors"
OWN = ["--set", "hdkd.model.factory=my_vit:build", "--set", "hdkd.model.input_size=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    shutil.copyfile(ROOT / "examples" / "own_network.py", folder / "my_vit.py")
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
