"""A rank that dies or hangs ends all ranks, with a line that names it; on really started ranks."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from local_ranks import LocalRanks

from hdkd_dist.distributed.signals import FAILED, LOST

SCRIPT = Path(__file__).with_name("watched_rank.py")
WITHIN = 60  # seconds, of which the time limit of the script is 3


@pytest.fixture
def start(tmp_path):
    """Starts three ranks and waits until they work together; none outlives the test."""
    started = []

    def working(*words):
        run = LocalRanks(SCRIPT, words, 3, tmp_path)
        started.append(run)
        end = time.monotonic() + 60
        while run.output.count("working") < 3:
            assert run.running, run.output
            assert time.monotonic() < end
            time.sleep(0.05)
        return run

    yield working
    for run in started:
        run.send(signal.SIGKILL)


def errors(run):
    return [line for line in run.output.splitlines() if line.startswith("error")]


@pytest.mark.parametrize(
    ("number", "victim", "fate"),
    [
        (signal.SIGKILL, 2, "has ended unexpectedly"),
        (signal.SIGSTOP, 2, "has given no sign of life for 3 s, last at step"),
        (signal.SIGSTOP, 0, "has given no sign of life for 3 s"),
    ],
)
def test_lost_rank_is_named_and_the_others_end(start, number, victim, fate):
    run = start()
    run.send(number, victim)
    others = [process for rank, process in enumerate(run.processes) if rank != victim]
    assert [process.wait(WITHIN) for process in others] == [LOST] * 2, run.output
    run.send(signal.SIGKILL, victim)
    run.wait()
    (error,) = errors(run)
    assert error.startswith(f"error: rank {victim} (on ")
    assert fate in error
    assert "--resume auto" in error


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        ("fail", FAILED, "OutOfMemoryError: CUDA out of memory"),
        ("memory", FAILED, "MemoryError"),
        ("break", LOST, "CUDA error: uncorrectable ECC"),
    ],
)
def test_fault_of_its_own_is_told_from_one_of_the_machine(start, fault, status, said):
    """The first would come again, and a job must not be requeued for it."""
    run = start(fault)
    assert run.wait(WITHIN) == [status, 1, status], run.output
    assert errors(run)[0].startswith("error: rank 1 (on ")
    assert "has failed (" in errors(run)[0]
    traceback = run.logs[1].read_text()
    assert "Traceback (most recent call last)" in traceback
    assert said in traceback


def test_rank_that_no_longer_moves_is_named_and_the_stacks_say_where_each_stood(start, tmp_path):
    run = start("hang")
    assert run.wait(WITHIN) == [LOST] * 3, run.output
    (error,) = errors(run)
    assert error.startswith("error: rank 1 (on ")
    assert "has not moved for 3 s, at step 10, reading data" in error
    assert error.endswith("where each rank stood is in stacks")
    files = [tmp_path / f"stacks/rank_0000{rank}.txt" for rank in (0, 1)]
    waiting, stuck = [file.read_text() for file in files]
    assert "has not moved for 3 s" in stuck
    assert "time.sleep(60)" in stuck
    assert "dist.all_reduce(torch.zeros(1))" in waiting


@pytest.mark.parametrize("victim", [0, 1])
def test_rank_that_is_stuck_in_c_with_pythons_lock_is_named_and_its_stacks_are_written(
    start, tmp_path, victim
):
    run = start("hang_in_c", str(victim))
    others = [run.processes[rank] for rank in (1 - victim, 2)]
    assert [process.wait(WITHIN) for process in others] == [LOST] * 2, run.output
    (error,) = errors(run)
    assert error.startswith(f"error: rank {victim} (on ")
    assert "has given no sign of life for 3 s" in error
    assert "in hang_in_c" in (tmp_path / f"stacks/rank_0000{victim}.txt").read_text()


def test_first_compilation_is_no_hang_and_a_run_in_good_order_leaves_no_stacks(start, tmp_path):
    run = start("compile")
    assert run.wait(WITHIN) == [0] * 3, run.output
    assert "compiled" in run.output
    assert not errors(run)
    assert not (tmp_path / "stacks").exists()
