"""The injector in short, on an exported network and on a run's page; and what it calls a fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from entry_points import ROOT
from exported_network import write_exported
from inject import End, judge
from injected_folder import build_sources
from injections import Case
from recorded_run import record_run

SCRIPT = Path(ROOT, "benchmarks/inject.py")
DAMAGES = "truncated|empty|flipped|huge|FIFO|missing|a folder|dangling link|another's"


def test_damages_to_an_export_or_a_run_are_refused_or_named_in_one_line(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    write_exported(base / "exported")
    record_run(base / "run")
    (base / "data").mkdir()
    build_sources(base)
    words = [
        "--folder",
        base,
        "--rows",
        "model.json .predict|run/(config|results).json .report|run/metrics.jsonl .report",
        "--columns",
        DAMAGES,
        "--each",
        "1",
    ]
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" cases, 0 failed\n")
    assert int(done.stdout.splitlines()[-1].split()[0]) == 4 * 9


CASE = Case("a row", "a column", ("predict",), (), named="0.png", undamaged=("predict",))


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        (End(2, "", "error: no\n", "a", "a"), ""),
        (End(2, "", "error: no\n", "a", "b"), "files changed"),
        (End(2, "", "warning: x\nerror: no\n", "a", "a"), "2 lines"),
        (End(2, "", "", "a", "a"), "0 lines"),
        (End(1, "", "Traceback (most recent call last):\nKeyError: 1\n", "a", "a"), "traceback"),
        (End(0, "class 3\n", "", "a", "a"), ""),  # as without the damage
        (End(0, "class 4\n", "", "a", "a"), "status 0"),
        (End(0, "class 4\n", "left out: 0.png\n", "a", "a"), ""),
        (End("SIGKILL", "", "", "a", "a"), "status SIGKILL"),
    ],
)
def test_only_one_line_a_name_or_no_effect_pass(end, fault):
    found = judge(CASE, end, lambda: End(0, "class 3\n", "", "a", "a"))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)
