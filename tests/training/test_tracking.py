"""Records survive a full disk and a W&B that cannot be reached."""

from __future__ import annotations

import json

import pytest
from test_files import limited_files

from hdkd_dist.config.settings import RunSettings
from hdkd_dist.runs.metrics import read_metrics
from hdkd_dist.training import tracking
from hdkd_dist.training.tracking import Tracker

LONG = {"a long event": "x" * 6000}
DISABLED = RunSettings(wandb="disabled")


def test_events_wait_until_the_disk_has_room_again(tmp_path, capsys):
    tracker = Tracker(tmp_path, DISABLED, {})
    tracker.record("step", {"step": 1})
    with limited_files(5000):
        for step in (2, 3):
            tracker.record("step", {"step": step, **LONG})
        with pytest.raises(OSError, match="File too large"):
            tracker.sync()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "metrics.jsonl cannot be written (File too large): kept in memory" in said
    tracker.record("step", {"step": 4})
    assert [event["step"] for event in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert tracker.sync()["metrics_bytes"] == (tmp_path / "metrics.jsonl").stat().st_size
    tracker.close()


def test_full_disk_at_the_end_is_an_error_in_one_line(tmp_path):
    tracker = Tracker(tmp_path, DISABLED, {})
    with limited_files(5000):
        tracker.record("step", {"step": 1, **LONG})
        with pytest.raises(ValueError, match=r"cannot be written .*free some space"):
            tracker.close()


def test_run_is_recorded_offline_where_wandb_cannot_be_reached(
    tmp_path, monkeypatch, fresh_wandb, capsys
):
    monkeypatch.setattr(tracking, "WANDB_TIMEOUT", 2)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    tracker = Tracker(tmp_path, RunSettings(wandb="online"), {"a": 1})
    tracker.record("step", {"step": 1, "loss": 0.5})
    run = tracker.sync()["wandb_id"]
    tracker.close()
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(said) == 1
    assert "W&B cannot be reached" in said[0]
    assert "recorded offline" in said[0]
    assert list((tmp_path / "wandb").glob(f"offline-run-*{run}/run-{run}.wandb"))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] == 0.5


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_run_goes_on_where_wandb_cannot_even_record(
    tmp_path, monkeypatch, fresh_wandb, capsys, mode
):
    def init(**_):
        raise OSError("its process cannot be started")

    monkeypatch.setattr("wandb.init", init)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = Tracker(tmp_path, RunSettings(wandb=mode), {})
    tracker.record("step", {"step": 1})
    tracker.close()
    first, *_, said = capsys.readouterr().err.splitlines()
    assert first == (
        "warning: WANDB_MODE=disabled in the environment makes no difference: "
        "--set hdkd.run.wandb=disabled"
    )
    assert said == (
        "warning: W&B cannot record (its process cannot be started): going on without it"
    )
    assert [event["step"] for event in read_metrics(tmp_path)] == [1]


def test_continued_run_keeps_its_wandb_id(tmp_path):
    tracker = Tracker(tmp_path, RunSettings(wandb="offline"), {}, wandb_id="abc123")
    assert tracker.sync()["wandb_id"] == "abc123"
    tracker.close()
