"""Requests to stop reach a process whatever its main thread does."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
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
    print("saving a checkpoint", flush=True)
    Path("checkpoint").touch()
    print("checkpoint for", requests.received, flush=True)
    while requests.received == signals.signal.SIGINT:
        ctypes.CDLL(None).poll(None, 0, 60_000)
"""


@pytest.fixture(autouse=True)
def hangup_is_heard():
    """Children hear SIGHUP although these tests may themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(folder, phase, word, under=()):
    process = subprocess.Popen(
        [*under, sys.executable, "-c", SCRIPT, phase],
        cwd=folder,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
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
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STOPPED
    assert errors == f"stopped by {number.name} before training began\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP])
def test_while_training_a_request_waits_to_be_looked_at(tmp_path, number):
    process = start(tmp_path, "train", "training")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert output.endswith(f"checkpoint for {int(number)}\n")
    assert process.returncode == 0


def test_second_ctrl_c_stops_at_once(tmp_path):
    process = start(tmp_path, "train", "training")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saving a checkpoint\n"
    assert process.stdout.readline() == f"checkpoint for {int(signal.SIGINT)}\n"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "stopping at once" in errors


def test_closed_terminal_leads_to_a_checkpoint(tmp_path):
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", SCRIPT, "train"])
    said = b""
    while b"training" not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)  # as sshd does: SIGHUP, and what is printed from now on fails
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (tmp_path / "checkpoint").exists()


def test_nohup_is_respected(tmp_path):
    process = start(tmp_path, "train", "training", under=["nohup"])
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert output.endswith(f"checkpoint for {int(signal.SIGTERM)}\n")


@pytest.mark.parametrize("launched", [True, False])
def test_rank_of_a_killed_launcher_stops_and_a_run_by_hand_outlives_its_shell(tmp_path, launched):
    command = 'RANK=0 "$@" & echo $!; wait' if launched else '"$@" & echo $!; wait'
    shell = start(tmp_path, "train", "training", under=["bash", "-c", command, "launcher"])
    shell.send_signal(signal.SIGKILL)
    end = time.monotonic() + (60 if launched else 2)
    while time.monotonic() < end and not (tmp_path / "checkpoint").exists():
        time.sleep(0.1)
    assert (tmp_path / "checkpoint").exists() == launched
    if not launched:
        os.killpg(shell.pid, signal.SIGKILL)


def test_exit_statuses_are_the_documented_ones():
    page = (Path(__file__).parents[2] / "docs/cluster.md").read_text()
    assert f"| {STOPPED} | stopped as asked" in page
