"""``report.py`` as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from entry_points import ROOT
from recorded_run import record_run, settings

from hdkd_dist import cli, report

WITHOUT_TRAINING = """
import runpy, sys
for name in ("deepspeed", "ffcv", "wandb", "numba"):
    sys.modules[name] = None  # any import of it now fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    record_run(folder / "runs/one")
    record_run(folder / "runs/two", settings("msdnet"), finished=False)
    (folder / "runs/one.log").write_text("not a run")
    return folder


def test_the_shells_words_become_one_page_without_what_training_needs(folder):
    words = ["runs/one", "runs/one.log", "runs/two", "--out", "page.html"]  # runs/*
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING, ROOT / "hdkd_dist/report.py", "--runs", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("page.html: runs 2, finished 1; ")
    html = (folder / "page.html").read_text()
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")


def test_default_name_and_quoted_pattern(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    cli.run(report.main, ["--runs=runs/t*"])
    assert capsys.readouterr().out.startswith("report.html: runs 1, finished 0; ")
    assert (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--runs", "runs/three"], "there is no runs/three"),
        (["--runs", "runs/one.log"], "no folder that holds metrics.jsonl among runs/one.log"),
        (["--runs"], "--runs needs a value"),
        (["--runs", "runs/one", "--out", "nowhere/page.html"], "cannot write nowhere/page.html"),
    ],
)
def test_bad_words_are_one_line_and_status_2(folder, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stop:
        cli.run(report.main, words)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
