"""What becomes of a run when its checkpoints cannot be kept as they should be."""

from __future__ import annotations

import contextlib
import io
import signal
import time
from itertools import pairwise
from pathlib import Path

import torch
from ranks_harness import on_ranks
from test_state import TWO_MICRO_BATCHES, Training

from hdkd_dist.distributed.signals import STOPPED, StopRequests
from hdkd_dist.distributed.watchdog import ProgressMark


def save(folder, blocked):
    """Save three times; the names of the checkpoints and what was said."""
    from hdkd_dist.runs.folder import checkpoints_in
    from hdkd_dist.training.checkpointing.saver import RunIdentity, Saver

    folder = Path(folder)
    training = Training({**TWO_MICRO_BATCHES, "hdkd.checkpoint.keep": 1})
    progress = training.progress
    progress.validation = torch.ones(2, 3)
    identity = RunIdentity(config={}, data={}, records=dict)
    saver = Saver(training.run, progress, folder, identity, StopRequests(), ProgressMark())
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        for step in (1, 2, 3):
            if step == 3 and blocked:
                (folder / "best").unlink()
                (folder / "best/older").mkdir(parents=True)
            progress.step = step
            saver.save(validation=float(step))
    return [path.name for path in checkpoints_in(folder)], said.getvalue()


def attend(folder, minutes, steps, pause):
    """Of a training that is slow, the steps of the checkpoints, and when each of them ended."""
    from hdkd_dist.runs.folder import checkpoints_in
    from hdkd_dist.training.checkpointing.files import read_checkpoint
    from hdkd_dist.training.checkpointing.saver import RunIdentity, Saver

    folder = Path(folder)
    checkpoints = {"hdkd.checkpoint.every_minutes": minutes, "hdkd.checkpoint.keep": 99}
    training = Training({**TWO_MICRO_BATCHES, **checkpoints})
    identity = RunIdentity(config={}, data={}, records=dict)
    saver = Saver(training.run, training.progress, folder, identity, StopRequests(), ProgressMark())
    ended = {}
    for step in range(1, steps + 1):
        training.progress.step = step
        time.sleep(pause)
        ended[step] = time.monotonic()
        saver.after_step()
    saved = [read_checkpoint(path).step for path in checkpoints_in(folder)]
    return saved, [ended[step] for step in saved]


def hang_up(folder):
    """What a run says when its terminal is closed before its second step, and its status."""
    from hdkd_dist.training.checkpointing.saver import RunIdentity, Saver, Stopped

    training, requests = Training(TWO_MICRO_BATCHES), StopRequests()
    identity = RunIdentity(config={}, data={}, records=dict)
    saver = Saver(training.run, training.progress, Path(folder), identity, requests, ProgressMark())
    requests.received = signal.SIGHUP
    try:
        for step in (1, 2, 3):
            training.progress.step = step
            saver.after_step()
    except Stopped as stop:
        return stop.code, stop.text
    return 0, "trained on"


def test_closed_terminal_stops_after_a_checkpoint(tmp_path):
    """SIGHUP's number is the smallest there is: it must not be taken for a wish to save."""
    ((status, text),) = on_ranks(1, hang_up, str(tmp_path))
    assert status == STOPPED
    assert text.startswith("stopped by SIGHUP at step 2: the last checkpoint is ")
    assert "step-00000002;" in text


def test_a_save_that_is_due_is_made_once(tmp_path):
    period = 0.6
    (first, times), (second, _) = on_ranks(2, attend, str(tmp_path), period / 60, 24, 0.1)
    assert first == second
    assert len(first) >= 2  # in at least 2.4 s
    assert all(later - earlier >= period for earlier, later in pairwise(times))


def test_only_the_last_are_kept(tmp_path):
    assert on_ranks(1, save, str(tmp_path), False) == [(["step-00000003-evaluated"], "")]


def test_checkpoint_that_is_written_counts_though_older_ones_stay(tmp_path):
    ((names, said),) = on_ranks(1, save, str(tmp_path), True)
    assert names == ["step-00000002-evaluated", "step-00000003-evaluated"]
    assert "step-00000003-evaluated is written, but older ones were not removed" in said
    assert "no checkpoint could be written" not in said
