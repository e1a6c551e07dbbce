"""Progress of a run: lines in a log file, a bar in a terminal that ends before the results."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from recorded_run import record_run, settings

LINE = (
    r"\d\d:\d\d:\d\d  epoch 2/3  step 6/12  rate 0\.1  loss CE 0\.167 0\.143 0\.125 KD 0\.101  "
    r"Σγ/Σγ₀ 1\.\d{3}  \d+ images/s  0:00:\d\d left"
)
PROGRAM = """
import pathlib, sys
sys.path.insert(0, "tests")
from recorded_run import record_run
record_run(pathlib.Path(sys.argv[1]) / "run")
print("exit   MMAC")
"""


def test_log_file_has_a_plain_line_per_record(tmp_path, capsys):
    record_run(tmp_path / "run")
    written = capsys.readouterr().err
    assert "\r" not in written
    lines = written.splitlines()
    assert len(lines) == 9  # of each epoch two records and an evaluation
    assert re.fullmatch(LINE, lines[3]), lines[3]
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d  epoch 2/3  validation top-1 per exit: 30.00 30.50 31.00", lines[5]
    )
    record_run(tmp_path / "msdnet", settings("msdnet"))
    assert " KD " not in capsys.readouterr().err


def shown_by_a_terminal(folder, rows, columns):
    """What a run prints there."""
    leader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(leader, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_terminal_that_does_not_tell_its_width_gets_lines(tmp_path):
    assert "step 2/" in shown_by_a_terminal(tmp_path, 0, 0)


def test_bar_of_a_terminal_ends_before_the_results(tmp_path):
    shown = shown_by_a_terminal(tmp_path, 40, 110).strip()
    lines = [line.rpartition("\r")[2] for line in re.split(r"[\r]*\n", shown)]
    assert lines[-1] == "exit   MMAC"
    assert lines[-2].startswith("100%")
    assert sum(line.startswith("100%") for line in lines) == 1
