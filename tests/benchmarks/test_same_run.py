"""Two runs are compared value by value."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

SCRIPT = Path(__file__).parents[2] / "benchmarks/same_run.py"


def write_run(folder, weight=1.0, gamma=0.5, loss=2.0, speed=100.0):
    (folder / "checkpoints/final").mkdir(parents=True)
    weights = {"w": torch.tensor([weight, 4.0]), "steps": torch.tensor(7)}
    save_file(weights, folder / "checkpoints/final/model.safetensors")
    ends = {"ce": [1.0, gamma], "kd": [[0.0, 0.0], [1.0, 0.0]]}
    (folder / "results.json").write_text(json.dumps({"gamma": {"initial": ends, **ends}}))
    event = {"event": "step", "step": 1, "loss/ce_1": loss, "images_per_s": speed}
    (folder / "metrics.jsonl").write_text(json.dumps(event) + "\n")
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": 1.5}, "parameters: 1 of 2 names differ; most w, by 1.2e-01"),
        ({"gamma": 0.5 + 1e-12}, "γ: 2 of 4 names differ; most final ce, by 1.0e-12"),
        ({"loss": 2.5}, "metrics.jsonl: 1 of 2 names differ; most step loss/ce_1, by 2.5e-01"),
        ({"speed": 50.0}, None),  # of the machine
    ],
)
def test_differences_are_found_and_sized(tmp_path, change, said):
    before, after = write_run(tmp_path / "a"), write_run(tmp_path / "b", **change)
    done = subprocess.run(
        [sys.executable, SCRIPT, before, after], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == (said is not None), done.stderr
    equal = done.stdout.count("equal to the bit")
    assert equal == (3 if said is None else 2)
    assert said is None or said in done.stdout
