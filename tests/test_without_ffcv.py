"""Prepare, train, go on after a stop, and evaluate where FFCV cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from entry_points import ROOT, write_config
from safetensors.torch import load_file

WEIGHTS = "checkpoints/final/model.safetensors"
SETTINGS = (
    "hdkd.data.reader=ffcv",  # as by default; torch's takes its place
    *("hdkd.data.randaugment=9", "hdkd.data.colour_jitter=0.4", "hdkd.data.workers=2"),
)


def test_a_run_ends_with_the_same_weights_after_a_stop_and_is_evaluated(tmp_path):
    blocked = tmp_path / "blocked"
    for package in ("ffcv", "numba"):
        (blocked / package).mkdir(parents=True)
        (blocked / package / "__init__.py").write_text("raise ImportError('not installed here')\n")
    environment = {**os.environ, "PYTHONPATH": f"{blocked}{os.pathsep}{ROOT}"}

    def run(script, *words):
        done = subprocess.run(
            [sys.executable, str(ROOT / "hdkd_dist" / script), *map(str, words)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done

    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    train = ("train.py", "--ds_config", write_config(tmp_path), *settings)
    whole = run(*train, "--out", "whole", "--set", "hdkd.checkpoint.every_steps=20")  # of 34
    said = [line for line in whole.stderr.splitlines() if "FFCV" in line]
    assert len(said) == 1
    assert "FFCV cannot be imported (not installed here)" in said[0]
    run(*train, "--out", "resumed", "--resume", "whole/checkpoints/step-00000020")
    weights, again = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "resumed"))
    assert all(weights[name].equal(again[name]) for name in weights)
    run("evaluate.py", "--run", "whole")
    assert "budgeted" in json.loads((tmp_path / "whole" / "results.json").read_text())
