"""What the job scripts do with an exit status; a real Slurm runs them in `make slurm-test`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

RANKS = Path(__file__).parents[1] / "slurm/ranks.sh"
SCRIPT = """
source "$1"
scontrol() { echo "scontrol $*"; false; }  # false: the script is not ended while it sleeps
finish_or_requeue "$2"
"""


def finish(folder, status, **environment):
    """What is printed, and the script's exit status."""
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "job", str(RANKS), str(status)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7", "MAX_LOSSES": "2", **environment},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr, done.returncode


def test_finished_and_faulty_runs_are_not_requeued(tmp_path):
    for status in (0, 1, 2, 70, 130):
        said, left = finish(tmp_path, status)
        assert "scontrol" not in said
        assert left == status
    assert not list(tmp_path.iterdir())


def test_stopped_run_is_requeued_however_often(tmp_path):
    said, left = finish(tmp_path, 75, SLURM_RESTART_COUNT="5000")
    assert "scontrol requeue 7" in said
    assert left == 75


def test_task_of_an_array_requeues_itself_and_no_other(tmp_path):
    # The task that is started last has the array's own id; Slurm takes that for all tasks.
    said, _ = finish(tmp_path, 75, SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3")
    assert "scontrol requeue 7_3\n" in said


@pytest.mark.parametrize("status", [76, 134, 135, 137, 138, 139, 140, 143, 253])
def test_losses_in_a_row_come_to_an_end(tmp_path, status):
    for _ in range(2):
        assert "scontrol requeue 7" in finish(tmp_path, status)[0]
    said, left = finish(tmp_path, status)
    assert "error: the run has lost a rank 3 times in a row" in said
    assert left == 2
    assert "scontrol" not in said


def test_stop_in_good_order_begins_a_new_count(tmp_path):
    for status in (76, 76, 75, 76, 76):
        assert "scontrol requeue 7" in finish(tmp_path, status)[0]
