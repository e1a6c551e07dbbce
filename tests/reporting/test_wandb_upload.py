"""A run's records as W&B gets them: every event once, in order, however often it was resumed."""

from __future__ import annotations

import json
import struct

import pytest
from recorded_run import record_run
from wandb.proto.wandb_internal_pb2 import Record

from hdkd_dist import cli
from hdkd_dist.reporting import wandb_upload
from hdkd_dist.runs.metrics import read_metrics

BLOCK, WHOLE, LAST = 1 << 15, 1, 4


def stored(file):
    """The records of a W&B file: LevelDB's log format after seven bytes of W&B's own."""
    data, place, record = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # padding up to the next block
            place += BLOCK - place % BLOCK
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", data, place)
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def history(file):
    """The events in an offline W&B run's file, as ``wandb sync`` would send them."""
    events = []
    for data in stored(file):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            event = {item.key or "/".join(item.nested_key): item.value_json for item in items}
            events.append({key: json.loads(value) for key, value in event.items()})
    return events


def test_every_event_is_there_once(tmp_path, monkeypatch, fresh_wandb, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = record_run(tmp_path / "run")
    cli.run(wandb_upload.main, ["--runs", str(folder)])
    recorded = read_metrics(folder)
    assert f"run: {len(recorded)} of {len(recorded)} events" in capsys.readouterr().out
    (file,) = (folder / "wandb").glob(f"offline-run-*/run-{wandb_upload.identity(folder)}.wandb")
    sent = history(file)
    assert [event["step"] for event in sent] == [event["step"] for event in recorded]
    assert [event.get("gamma/ce_1") for event in sent] == [e.get("gamma/ce_1") for e in recorded]


def test_no_login_is_one_line(tmp_path, monkeypatch, fresh_wandb, capsys):
    folder = record_run(tmp_path / "run")

    def refuse(**_):
        raise wandb_upload.wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb_upload.wandb, "init", refuse)
    with pytest.raises(SystemExit) as stop:
        cli.run(wandb_upload.main, ["--runs", str(folder)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: cannot upload ")
    assert "No API key configured; W&B wants a network and a login" in line
