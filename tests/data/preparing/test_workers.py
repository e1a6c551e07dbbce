"""Progress in a log file has lines, not carriage returns."""

from __future__ import annotations

from hdkd_dist.data.preparing.workers import progress_bar


def test_log_file_gets_a_line_per_state(capsys):
    for label in ("train", "test"):
        with progress_bar(3, f"writing {label}") as progress:
            progress.update(3)
    written = capsys.readouterr().err
    assert "\r" not in written
    lines = written.splitlines()
    assert [line.split(":")[0] for line in lines] == ["writing train"] * 2 + ["writing test"] * 2
    assert "3/3" in lines[1]
