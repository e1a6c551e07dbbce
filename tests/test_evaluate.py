"""Requests to evaluate.py that are refused; a whole one is in test_evaluate_export_predict.py."""

from __future__ import annotations

import pytest
from entry_points import call

REQUESTS = {
    "no run there": (["--run", "nowhere"], "nowhere is not the folder of a run"),
    "named twice": (["--run", "a", "--run", "a"], "different runs, not a, a"),
    "neither true nor false": (["--run", "a", "--save_logits", "some"], "--save_logits must be"),
    "a place for a curve of one": (["--run", "a", "--out", "b"], "of several networks goes: leave"),
    "no images": (["--run", "a", "--batch", "0"], "--batch must be a whole number from 1 on"),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_refusals_are_one_line_and_status_2(request_, tmp_path):
    words, said = REQUESTS[request_]
    done = call("hdkd_dist/evaluate.py", *words, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not list(tmp_path.iterdir())
