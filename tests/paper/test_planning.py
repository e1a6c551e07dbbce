"""What a plan says before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import SMALL, no_settings

from hdkd_dist.paper.costs import PEAK_TMAC
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.planning import Device, commands, plan_lines, power_of
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import controls
from hdkd_dist.paper.trials import Folders


@pytest.mark.parametrize("scale", SCALES)
def test_each_study_can_decide_something(scale, tmp_path):
    ledger = Ledger(SCALES[scale], Folders(tmp_path, tmp_path), tmp_path, {})
    lines = list(power_of(SCALES[scale].studies, ledger))
    assert any("the paper has" in line for line in lines)


def test_a_control_says_what_it_takes_and_from_which_run():
    row = next(row for row in controls(SMALL, no_settings) if row.trial.takes == "replayed_sum")
    train, evaluate = commands(row.trial, Folders(Path("data"), Path("runs")))
    assert train.endswith(f"--resume auto # and the size of γ of {row.trial.source.name}")
    assert f"--out runs/{row.trial.name}" in train
    assert evaluate.startswith(f"python hdkd_dist/evaluate.py --run runs/{row.trial.name}")


def test_a_faster_device_needs_fewer_hours(tmp_path):
    ledger = Ledger(SMALL, Folders(tmp_path, tmp_path), tmp_path, {})
    hours = []
    for speed in (1.0, 2.0):
        *_, together = plan_lines(
            ["block1"], ledger, Device("a core", dict.fromkeys(PEAK_TMAC, speed)), False
        )
        hours.append(float(together.split("runs, ")[1].split(" hours")[0]))
    assert hours[0] == pytest.approx(2 * hours[1], rel=1e-3)
