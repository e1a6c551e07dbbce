"""Starts the entry points as a user does, in a folder of their own."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forking import FORKED

from hdkd_dist.distributed.ranks import free_port

ROOT = Path(__file__).parents[1]
SMALL = {
    "train_batch_size": 64,
    "optimizer": {"type": "SGD", "params": {"momentum": 0.9, "weight_decay": 1e-4}},
    "hdkd": {
        "model": {"preset": "msdnet-digits"},
        "data": {"path": "digits", "reader": "torch"},  # which need not compile
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


class Program:
    """An entry point that runs in a process which need not import what training needs."""

    def __init__(self, script: str, words: Sequence[str | Path], cwd: Path, **environment: str):
        self.command = [str(ROOT / script), *map(str, words)]
        self.folder = tempfile.TemporaryDirectory()
        self.outputs = [Path(self.folder.name, name) for name in ("stdout", "stderr")]
        for file in self.outputs:
            file.touch()
        given = (self.command, cwd, self.outputs, {**os.environ, **environment})
        self.process = FORKED.Process(target=become, args=given)
        self.process.start()

    def finish(self) -> subprocess.CompletedProcess:
        """Wait for the end, 300 s at most; the output is captured."""
        self.process.join(300)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        output = [file.read_text() for file in self.outputs]
        self.folder.cleanup()
        return subprocess.CompletedProcess(self.command, self.process.exitcode, *output)


def become(
    command: list[str], cwd: Path, outputs: Sequence[Path], environment: dict[str, str]
) -> None:
    """Take on a program's words, folder, output, environment and import path, and run it."""
    for descriptor, file in enumerate(outputs, start=1):
        os.dup2(os.open(file, os.O_WRONLY), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True)  # this process's own start was by another
    sys.argv = command
    installed = [place for place in sys.path if place.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [str(Path(command[0]).parent), str(ROOT), *installed]
    runpy.run_path(command[0], run_name="__main__")


def call(script: str, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run an entry point as a program; the output is captured."""
    return Program(script, words, cwd).finish()


def call_ranks(
    ranks: int, script: str, *words: str | Path, cwd: Path
) -> list[subprocess.CompletedProcess]:
    """Run an entry point on so many ranks, as a launcher would."""
    shared = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    programs = [Program(script, words, cwd, **shared, **place) for place in places]
    return [program.finish() for program in programs]


def launch(ranks: int, script: str, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run an entry point with the launcher that is installed beside this Python."""
    launcher = str(Path(sys.executable).with_name("deepspeed"))
    port = str(free_port())  # its default port may be another run's
    options = ["--master_port", port, "--num_accelerators", str(ranks)]
    return subprocess.run(
        [launcher, *options, str(ROOT / script), *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
