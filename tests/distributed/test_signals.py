"""Requests to stop reach a process whatever its main thread does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hdkd_dist.distributed.signals import INTERRUPTED, STOPPED

SCRIPT = """
import ctypes, sys, time
from pathlib import Path
from hdkd_dist.data.staging import staging_folder
from hdkd_dist.distributed import signals

requests = signals.listen()
with staging_folder(Path("out")):
    print("preparing", flush=True)
    while sys.argv[1] == "prepare":
        ctypes.CDLL(None).poll(None, 0, 60_000)  # the main thread sees no signal in there
with requests.patience():
    print("training", flush=True)
    while not requests.received:
        time.sleep(0.01)
    print("checkpoint for", requests.received, flush=True)
    while requests.received == signals.signal.SIGINT:
        ctypes.CDLL(None).poll(None, 0, 60_000)
"""


def start(folder, phase, word):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, phase],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.stdout.readline().strip() != word:
        assert process.poll() is None
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_before_training_the_process_leaves_at_once_and_cleans_up(tmp_path, number):
    process = start(tmp_path, "prepare", "preparing")
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == STOPPED
    assert errors == f"stopped by {number.name} before training began\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_while_training_a_request_waits_to_be_looked_at(tmp_path, number):
    process = start(tmp_path, "train", "training")
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert output == f"checkpoint for {int(number)}\n"
    assert process.returncode == 0


def test_second_ctrl_c_stops_at_once(tmp_path):
    process = start(tmp_path, "train", "training")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == f"checkpoint for {int(signal.SIGINT)}\n"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == INTERRUPTED
    assert "stopping at once" in errors


def test_exit_statuses_are_the_documented_ones():
    page = (Path(__file__).parents[2] / "docs/cluster.md").read_text()
    assert f"| {STOPPED} | stopped as asked" in page
