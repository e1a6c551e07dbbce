"""Events of a run, as the reporter writes them."""

from __future__ import annotations

import pytest
from recorded_run import record_run

from hdkd_dist.runs import names
from hdkd_dist.runs.metrics import read_metrics


def test_events_hold_every_value_under_its_name(tmp_path):
    events = read_metrics(record_run(tmp_path / "run"))
    kinds = [event["event"] for event in events]
    assert kinds == ["step", "step", "epoch"] * 3 + ["end"]
    step, epoch, end = events[0], events[2], events[-1]
    assert names.members(names.LOSS, step)[-1] == "loss/kd_3_to_2"
    assert names.members(names.GAMMA, step)[0] == "gamma/ce_1"
    assert step[names.GRADIENT] == 1.5
    assert step[names.HYPERGRADIENT] == 0.5
    assert names.exits(names.AVERAGE_CE, step) == [1.0, 1.0, 1.0]
    assert names.exits(names.VAL_TOP1, epoch) == pytest.approx([25, 25.5, 26])
    assert names.exits(names.TEST_TOP1, end) == pytest.approx([34.5, 35, 35.5])
    assert names.exits(names.VAL_TOP5, end) == pytest.approx([45, 45.5, 46])
