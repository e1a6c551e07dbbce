"""``report.py`` as a user starts it."""

from __future__ import annotations

import os
import shutil
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
    os.mkfifo(folder / "pipe")
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
        (["--runs", "runs/one", "--out", "pipe"], "cannot write pipe: it is no file"),
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


def nest(file):
    file.write_text("[" * 100_000)


def replace_by_pipe(file):
    file.unlink()
    os.mkfifo(file)


BAD = {
    "deep": ("results.json", nest, "results.json cannot be read (it is nested deeper than 64"),
    "pipe": ("results.json", replace_by_pipe, "results.json cannot be read (no regular file)"),
    "nan": (
        "config.json",
        lambda file: file.write_text('{"hdkd": {"run": {"seed": NaN}}}'),
        "config.json cannot be read (hdkd.run.seed is nan",
    ),
    "noise": (
        "metrics.jsonl",
        lambda file: file.write_bytes(bytes(range(256)) * 9000),  # 2 MB, few line ends
        "of metrics.jsonl are cut or damaged",
    ),
    "surrogate": (
        "results.json",
        lambda file: file.write_text(file.read_text().replace('"digits"', '"\\ud800"')),
        None,
    ),
    os.fsdecode(b"na\xefve"): ("config.json", os.unlink, "config.json is missing"),
}


def test_bad_runs_are_named_and_do_not_keep_the_good_one_from_the_page(tmp_path, capsys):
    record_run(tmp_path / "good")
    for name, (file, damage, _) in BAD.items():
        shutil.copytree(tmp_path / "good", tmp_path / name)
        damage(tmp_path / name / file)
    capsys.readouterr()
    page = tmp_path / "page.html"
    cli.run(report.main, ["--runs", *map(str, tmp_path.iterdir()), f"--out={page}"])
    said = capsys.readouterr()
    assert said.out.startswith(f"{page}: runs 7, finished 5; ")
    notes = dict(line[len("note: ") :].split(": ", 1) for line in said.err.splitlines())
    expected = {os.fsencode(n).decode("utf-8", "backslashreplace"): BAD[n][2] for n in BAD}
    assert notes.keys() == expected.keys() - {"surrogate"}
    for name, note in notes.items():
        assert expected[name] in note
    html = page.read_text(encoding="utf-8")
    assert "good" in html
    assert r"na\xefve" in html
