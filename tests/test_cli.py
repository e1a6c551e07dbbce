"""The command line of all entry points."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hdkd_dist import __version__, cli
from hdkd_dist.__main__ import main as start_command

SCRIPT = """
from __future__ import annotations
from collections.abc import Sequence
from hdkd_dist import cli
def main(count: int, set: Sequence[str] = (), test: bool = True):
    print(count, set, test)
    if count > 3:
        raise ValueError("count is\\ntoo large")
    if count < 0:
        raise RuntimeError("a bug")
cli.run(main)
"""


def call(*words):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, timeout=60
    )


def test_flags_and_repeated_settings():
    done = call("--count", "2", "--set", "a=1", "--set=b=[2, 3]", "--test", "false")
    assert (done.returncode, done.stdout) == (0, "2 ['a=1', 'b=[2, 3]'] False\n")


def test_error_is_one_line_and_status_2():
    done = call("--count", "5")
    assert done.returncode == 2
    assert done.stderr == "error: count is too large\n"


def test_misspelt_flag_stops_before_the_work():
    done = call("--count", "2", "--tset", "false")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--tset" in done.stderr


def test_bug_keeps_its_traceback():
    done = call("--count", "-1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


TALKATIVE = """
from hdkd_dist import cli
def main(lines: int):
    for number in range(lines):
        print(number)
cli.run(main)
"""
OTHER_PIPE = """
import os
from hdkd_dist import cli
def main():
    print("said")
    read, write = os.pipe()
    os.close(read)
    os.write(write, b"x")
cli.run(main)
"""


@pytest.mark.parametrize("lines", [1, 100_000])  # noticed at the end, and on the way
def test_output_that_nobody_reads_ends_quietly(lines):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", TALKATIVE, "--lines", str(lines)],
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_other_broken_pipe_keeps_its_traceback():
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PIPE], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "said\n")
    assert "BrokenPipeError" in done.stderr


class Alone(ValueError):
    one_rank = True


@pytest.mark.parametrize(
    ("error", "said"), [(ValueError("no"), ""), (Alone("no"), "error (rank 3): no\n")]
)
def test_other_ranks_speak_only_of_their_own_faults(capsys, monkeypatch, error, said):
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(SystemExit) as stop:
        cli.fail(error)
    assert stop.value.code == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("ending", "status"),
    [("pass", 0), ("sys.exit(2)", 2), ("sys.exit('no')", 1), ("1 / 0", 1), ("sys.exit()", 0)],
)
def test_leaving_at_once_keeps_output_and_status(ending, status):
    code = f"""
import atexit, sys
from hdkd_dist import cli
atexit.register(print, "clean-up")
with cli.leaving_at_once():
    print("output", end="")
    {ending}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (status, "output")
    assert ("ZeroDivisionError" in done.stderr) == (ending == "1 / 0")


@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_wants_it_otherwise(given, policy, monkeypatch):
    seen = []

    def main() -> None:
        seen.append(os.environ["OMP_WAIT_POLICY"])

    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    cli.run(main, [])
    assert seen == [policy]


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv(cli.TRACEBACK, "1")
    done = call("--count", "5")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_missing_extra_is_one_line_that_names_it(capsys, monkeypatch):
    def main() -> None:
        import onnxruntime  # noqa: F401

    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    with pytest.raises(SystemExit) as stop:
        cli.run(main, [], "export.py")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: export.py needs onnxruntime, which is not installed: pip install"
    )
    assert "'hdkd_dist[export]'" in said


def test_an_extra_that_a_command_imports_at_once_is_named_too(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.delitem(sys.modules, "hdkd_dist.reporting.wandb_workspace", raising=False)
    monkeypatch.setattr(sys, "argv", ["hdkd", "wandb-workspace", "--entity", "us"])
    with pytest.raises(SystemExit) as stop:
        start_command()
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: hdkd-wandb-workspace needs wandb_workspaces, which is not")
    assert "'hdkd_dist[train]'" in said


def test_extras_are_those_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    imported = {"scikit-learn": "sklearn", "wandb-workspaces": "wandb_workspaces"}
    for package, extra in cli.EXTRAS.items():
        listed = re.findall(r"^[\w-]+", setup["options.extras_require"][extra], re.M)
        assert package in {imported.get(name, name) for name in listed}


def test_version_and_help_are_answered_before_anything_is_imported(capsys):
    def main(count: int) -> None:
        raise RuntimeError("ran")

    cli.run(main, ["--version"])
    assert capsys.readouterr().out == f"hdkd_dist {__version__}\n"
    cli.run(main, ["--count", "x", "-h"], "count.py")
    assert capsys.readouterr().out.startswith("usage: count.py --count N [flags]\n")


HEAVY = {"torch", "numpy", "ffcv", "deepspeed", "pydantic"}


def test_a_word_that_is_wrong_costs_no_heavy_import():
    code = f"""
import contextlib, sys
from hdkd_dist import cli, evaluate, export, predict, report, reproduce, train
for main in (train.main, evaluate.main, export.main, predict.main, report.main, reproduce.plan):
    for words in (["--help"], ["--version"], ["--no_such_flag"], ["stray"]):
        with contextlib.suppress(SystemExit):
            cli.run(main, words)
found = {HEAVY} & sys.modules.keys()
assert not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize("path", ["x" * 5000, "loop"])
def test_a_path_that_can_be_none_is_one_line(path, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")

    def main(data: str) -> None:
        Path(data).resolve(strict=True)

    with pytest.raises(SystemExit) as stop:
        cli.run(main, ["--data", path])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert len(said) < 400
