"""Starts the entry points as a user does, in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hdkd_dist.distributed.ranks import free_port

ROOT = Path(__file__).parents[1]
SMALL = {
    "train_batch_size": 64,
    "optimizer": {"type": "SGD", "params": {"momentum": 0.9, "weight_decay": 1e-4}},
    "hdkd": {
        "model": {"preset": "msdnet-digits"},
        "data": {"path": "digits"},
        "schedule": {"epochs": 2, "base_lr": 0.1, "base_batch": 64},
        "gamma": {"lr": 0.01},
        "run": {"log_every": 5, "wandb": "disabled"},
    },
}


def write_config(folder: Path, name: str = "small", **top_level: Any) -> Path:
    """A small configuration as a file; returns its path."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps({**SMALL, **top_level}))
    return file


def call(
    script: str, *words: str | Path, cwd: Path, launcher: Sequence[str] = (sys.executable,)
) -> subprocess.CompletedProcess:
    """Run an entry point; the output is captured."""
    command = [*launcher, str(ROOT / script), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def deepspeed(ranks: int) -> list[str]:
    """The launcher that is installed beside this Python."""
    program = str(Path(sys.executable).with_name("deepspeed"))
    port = str(free_port())  # its default port may be another run's
    return [program, "--master_port", port, "--num_accelerators", str(ranks)]
