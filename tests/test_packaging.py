"""What is installed from a wheel does what a checkout does, from any folder."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hdkd_dist
from hdkd_dist.__main__ import COMMANDS, split_words

ROOT = Path(__file__).parents[1]
SOURCES = ("hdkd_dist", "ds_configs", "data_prep", "setup.cfg", "pyproject.toml", "README.md")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's content and, in bin/, its commands."""
    folder = tmp_path_factory.mktemp("package")
    source, target = folder / "source", folder / "installed"
    source.mkdir()
    for name in (*SOURCES, "LICENSE"):  # a copy: what is left in the checkout's build/ stays out
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name, **({"symlinks": True} if copy is shutil.copytree else {}))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = [*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run(wheel, check=True, timeout=120)
    (file,) = folder.glob("*.whl")
    install = [*pip, "install", "--no-deps", "--no-index", "--target", target, file]
    subprocess.run(install, check=True, timeout=120)
    return target


@pytest.fixture
def call(installed, tmp_path):
    def run(program, *words):
        return subprocess.run(
            [installed / "bin" / program, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed), "WANDB_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_version_and_overview(call):
    assert call("hdkd", "--version").stdout == f"hdkd_dist {hdkd_dist.__version__}\n"
    overview = call("hdkd").stdout
    assert [line.split("  ")[1] for line in overview.splitlines()[2:]] == list(COMMANDS)


def test_data_are_prepared_and_a_run_is_trained_and_shown(call, tmp_path):
    for program, *words in (
        ("hdkd-prepare", "digits", "--out", "data/digits"),
        ("hdkd-train", "--ds_config", "quickstart.json", "--epochs", "1", "--out", "run"),
        ("hdkd-report", "--runs", "run"),
    ):
        done = call(program, *words)
        assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "run/results.json").read_text())["exits"]) == 3
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("name", ["train", "evaluate", "export", "predict", "models"])
def test_help_names_the_command(call, name):
    shown = call("hdkd", name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"hdkd-{name}" in shown.stdout + shown.stderr


def test_shipped_configurations_are_found_by_name(call):
    checked = call("hdkd-train", "--ds_config", "ds_configs/quickstart.json", "--check", "true")
    assert (checked.returncode, checked.stderr) == (0, "")
    refused = call("hdkd-train", "--ds_config", "quickstar.json")
    shipped = sorted(file.name for file in (ROOT / "ds_configs").glob("*.json"))
    assert refused.returncode == 2
    assert refused.stderr.endswith(f"one of those in ds_configs/: {', '.join(shipped)}\n")


def test_the_papers_runs_can_be_planned_from_an_installed_package(call):
    planned = call("hdkd-reproduce", "plan", "--table", "2", "--scale", "paper", "--commands")
    assert planned.returncode == 0, planned.stderr


def test_unknown_command_is_one_line(call):
    refused = call("hdkd-prepare", "mnist")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: 'prepare mnist' is no command of hdkd: choose one of arrays, cifar10, cifar100, "
        "digits, imagefolder\n"
    )
    with pytest.raises(ValueError, match="'tain' is no command of hdkd: did you mean train"):
        split_words(["tain", "--ds_config", "x"])


def test_commands_that_prepare_are_listed(call):
    listed = call("hdkd-prepare", "--help").stdout.splitlines()[2:]
    names = [name for name in COMMANDS if name.startswith("prepare ")]
    assert [line.split("  ")[1] for line in listed] == names


def test_missing_extra_is_one_line(installed):
    code = """
import sys
from hdkd_dist.__main__ import main
sys.modules["plotly"] = None  # as if it were not installed
sys.argv = ["hdkd-report", "--runs", "run"]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: hdkd-report needs plotly, which is not installed: pip install 'hdkd_dist[train]'"
    )


def test_every_entry_point_has_a_command_and_every_script_that_prepares_data():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = re.findall(r"hdkd-([\w-]+) =", setup["options.entry_points"]["console_scripts"])
    names = {name.split()[0] for name in COMMANDS}
    assert {*scripts, "models"} == names
    entry_points = {file.stem for file in (ROOT / "hdkd_dist").glob("[a-z]*.py")} - {
        "cli",
        "flags",
        "spelling",
    }
    assert entry_points <= names
    prepared = {name.removeprefix("prepare ") for name in COMMANDS if name.startswith("prepare ")}
    assert prepared == {file.stem for file in (ROOT / "data_prep").glob("*.py")}


def test_arguments_follow_the_commands_name():
    assert split_words(["prepare", "digits", "--out", "x"]) == ("prepare digits", ["--out", "x"])
    assert split_words(["train", "digits"]) == ("train", ["digits"])


def test_public_names_are_imported_only_when_they_are_used():
    code = """
import sys, hdkd_dist
assert set(hdkd_dist.__all__) <= set(dir(hdkd_dist))
assert not {"torch", "fire", "numpy"} & sys.modules.keys()
for name in hdkd_dist.__all__:
    assert getattr(hdkd_dist, name) is not None, name
from hdkd_dist import METHODS, build
assert build("msdnet-digits").num_exits == 3 and "hdkd" in METHODS
try:
    hdkd_dist.nothing
except AttributeError as error:
    assert "nothing" in str(error)
else:
    raise SystemExit("an unknown name was found")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)
