"""What becomes of a run when its checkpoints cannot be kept as they should be."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from ranks_harness import on_ranks
from test_snapshot import TWO_MICRO_BATCHES, Training

from hdkd_dist.training.pulse import Pulse
from hdkd_dist.training.signals import StopRequests


def save(folder, blocked):
    """Save three times; the names of the checkpoints and what was said."""
    from hdkd_dist.training.checkpoint import folders
    from hdkd_dist.training.keeper import Keeper, Origin

    folder = Path(folder)
    training = Training({**TWO_MICRO_BATCHES, "hdkd.checkpoint.keep": 1})
    progress = training.progress
    progress.validation = torch.ones(2, 3)
    origin = Origin(config={}, data={}, records=dict)
    keeper = Keeper(training.run, progress, folder, origin, StopRequests(), Pulse())
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        for step in (1, 2, 3):
            if step == 3 and blocked:
                (folder / "best").unlink()
                (folder / "best/older").mkdir(parents=True)
            progress.step = step
            keeper.save(validation=float(step))
    return [path.name for path in folders(folder)], said.getvalue()


def test_only_the_last_are_kept(tmp_path):
    assert on_ranks(1, save, str(tmp_path), False) == [(["step-00000003-evaluated"], "")]


def test_checkpoint_that_is_written_counts_though_older_ones_stay(tmp_path):
    ((names, said),) = on_ranks(1, save, str(tmp_path), True)
    assert names == ["step-00000002-evaluated", "step-00000003-evaluated"]
    assert "step-00000003-evaluated is written, but older ones were not removed" in said
    assert "no checkpoint could be written" not in said
