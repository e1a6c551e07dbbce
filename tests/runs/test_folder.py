"""A run's folder: one process has it, names are freed, what is left of a run is seen."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

import pytest

from hdkd_dist.runs import folder as folders
from hdkd_dist.runs.folder import CONFIG, check_seen, hold, rename_aside


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path):
    held = hold(tmp_path)
    with pytest.raises(ValueError, match="is being trained by another process"):
        hold(tmp_path)
    held.close()
    hold(tmp_path).close()
    with pytest.raises(ValueError, match=r"cannot write the run to .*choose another --out"):
        hold(tmp_path / "missing")


def test_a_forked_process_that_lives_on_holds_nothing(tmp_path):
    claim = hold(tmp_path)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.apply(os.getpid)  # it is there
        claim.close()
        hold(tmp_path).close()


def test_the_first_free_name_is_taken(tmp_path):
    for number in (1, 2):
        (tmp_path / "run").mkdir()
        assert rename_aside(tmp_path / "run", "old") == tmp_path / f"run.old-{number}"


def test_a_rank_waits_until_it_sees_the_folder(tmp_path, monkeypatch):
    def write():
        time.sleep(0.3)
        (tmp_path / CONFIG).write_text("{}")

    thread = threading.Thread(target=write)
    thread.start()
    check_seen(tmp_path)
    thread.join()
    monkeypatch.setattr(folders, "PATIENCE", 0.0)
    with pytest.raises(ValueError, match="a file system that all nodes share"):
        check_seen(tmp_path / "elsewhere")
