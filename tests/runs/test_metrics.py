"""What can be read of a run that is still writing, was killed, or was resumed."""

from __future__ import annotations

import json
import os

import pytest

from hdkd_dist.runs.metrics import last_event, read_events, run_folders


def line(event, step, **values):
    return json.dumps({"event": event, "step": step, **values}) + "\n"


WHOLE = [line("step", 2), line("step", 4), line("epoch", 4), line("step", 6)]


def write(folder, text):
    (folder / "metrics.jsonl").write_text(text)
    return folder


def test_a_file_cut_anywhere_gives_its_whole_lines(tmp_path):
    text = "".join(WHOLE)
    for end in range(len(text)):
        lines = text[:end].split("\n")
        complete = [json.loads(word) for word in lines[:-1]]
        cut = lines[-1]
        if cut.endswith("}"):  # only its line feed is missing
            complete, cut = [*complete, json.loads(cut)], ""
        assert read_events(write(tmp_path, text[:end])) == (complete, int(bool(cut)))


def test_lines_that_hold_no_event_are_counted(tmp_path):
    text = WHOLE[0] + '[1]\n{"step": 3}\n{"event": "step"}\n\x00\n' + WHOLE[1]
    events, unreadable = read_events(write(tmp_path, text))
    assert [event["step"] for event in events] == [2, 4]
    assert unreadable == 4


def test_file_that_has_grown_without_end_is_read_to_its_last_event(tmp_path):
    write(tmp_path, "".join(WHOLE))
    os.truncate(tmp_path / "metrics.jsonl", 1 << 40)  # sparse: zeros that take no room
    events, unreadable = read_events(tmp_path)
    assert [event["step"] for event in events] == [2, 4, 4, 6]
    assert unreadable == 1


def test_run_folders(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write(tmp_path / "runs" / name, "")
    (tmp_path / "runs/log").write_text("")
    (tmp_path / "runs/none").mkdir()
    monkeypatch.chdir(tmp_path)
    both = [tmp_path / "runs/a", tmp_path / "runs/b"]
    assert run_folders(["runs/*"]) == both
    assert run_folders(["runs/b", "runs/log", "runs/none", "runs/a/", "runs/b/"]) == both[::-1]
    (tmp_path / "runs/a[1]").mkdir()
    write(tmp_path / "runs/a[1]", "")
    assert run_folders(["runs/a[1]"]) == [tmp_path / "runs/a[1]"]  # as the shell has expanded it
    with pytest.raises(ValueError, match="there is no runs/c"):
        run_folders(["runs/a", "runs/c"])
    with pytest.raises(ValueError, match=r"no folder that holds metrics\.jsonl among runs/log"):
        run_folders(["runs/log"])


def test_the_last_event_is_found_in_a_file_of_any_size(tmp_path):
    file = write(tmp_path, "".join(WHOLE) * 20_000) / "metrics.jsonl"
    assert last_event(file) == json.loads(WHOLE[-1])
    os.truncate(file, 1 << 40)  # 1 TiB, which takes no place on the disk
    assert last_event(file) is None
    os.truncate(file, 0)
    assert last_event(file) is None
