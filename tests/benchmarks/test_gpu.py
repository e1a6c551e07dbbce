"""What benchmarks/gpu.py makes of parts that end well, fail, hang, or are cut off in a line."""

from __future__ import annotations

import json
import os
import sys
import time

import gpu
from gpu import LIMITS, Ended, rows_of, run_limited
from gpu_parts import PARTS

from hdkd_dist.distributed.processes import state_of

# A part whose own process waits, with the pipes open, for another that it has started.
HANGING = """
import subprocess, sys
print('{"row": 1}', flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
"""


def run(code, limit=60.0):
    return run_limited([sys.executable, "-c", code], os.environ, limit)


def test_part_that_fails_says_what_it_printed_and_said():
    ended = run("import sys; print(1); sys.exit('not exact')")
    assert ended == Ended("1\n", "not exact\n", "status 1")


def test_part_out_of_time_ends_with_what_it_started_and_keeps_its_rows():
    start = time.monotonic()
    ended = run(HANGING, limit=1.5)
    assert time.monotonic() - start < 10
    assert ended.fault == "out of time"
    row, child = ended.printed.split()[:2], ended.printed.split()[-1]
    assert " ".join(row) == '{"row": 1}'
    while state_of(int(child))[0] not in ("", "Z", "X"):  # it is being ended
        assert time.monotonic() - start < 10
        time.sleep(0.05)


def test_a_line_that_was_cut_off_is_left_out():
    assert rows_of('{"a": 1}\n# words\n{"b": 2}\n{"c": ') == [{"a": 1}, {"b": 2}]


def test_part_runs_as_the_script_starts_it(capsys):
    assert gpu.run_part("agree", rehearse=True)["fault"] == ""
    row, end = capsys.readouterr().out.splitlines()
    assert json.loads(row)["preset"] == "msdnet-digits"
    assert json.loads(end)["part"] == "agree"


def test_every_part_has_its_limit_and_all_together_fit_one_command():
    assert LIMITS.keys() == PARTS.keys()
    assert sum(LIMITS.values()) < 9 * 60
