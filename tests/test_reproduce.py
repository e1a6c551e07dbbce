"""The entry point reproduce.py, as a user starts it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from entry_points import ROOT

from hdkd_dist import cli
from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.paper.execution import execute
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.scales import Bench, Scale
from hdkd_dist.paper.trials import Folders, Trial
from hdkd_dist.reproduce import COMMANDS, asked_part, collect, plan, task


def test_a_plan_has_runs_commands_and_cost(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    plan("2", "paper", results=tmp_path, commands=True)
    lines = capsys.readouterr().out.splitlines()
    summary = r"2: 84 runs, 0 of them in the studies above; \S+ hours, \S+ still to do"
    assert re.fullmatch(summary, lines[0])
    assert sum(line.endswith(" h]") for line in lines) == 84
    trains = [line.strip() for line in lines if "train.py" in line]
    assert trains[0] == (
        "python hdkd_dist/train.py --ds_config ds_configs/cifar100.json --method msdnet --seed 0 "
        "--data data/cifar100-150 --out runs/paper/cifar100-150-msdnet-seed0 --test false "
        "--resume auto"
    )
    assert sum("evaluate.py --run runs/paper/" in line for line in lines) == 84
    assert sum("hours of an A100 at 5.5% of its peak" in line for line in lines) == 1
    assert "2: HDKD − MSDNet, exit 1, ± 0.96" in "\n".join(lines)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "error: the first word must be one of plan, run, collect, task"),
        (
            ["plan", "--scale", "big"],
            "error: --scale must be paper, paper_cheap or small, not 'big'",
        ),
        (["run", "--part", "3/3"], "error: --part must be i/n with i from 0 to n-1, not '3/3'"),
        (
            ["run", "--launcher", "nothing_here -v"],
            "error: --launcher 'nothing_here -v' is no program that can be found from here",
        ),
        (
            ["plan", "--efficiency", "0"],
            "error: --efficiency must be a number above 0 and up to 1, not 0.0",
        ),
        (
            ["plan", "--efficiency", "fast"],
            "error: --efficiency must be a number, not 'fast'",
        ),
    ],
)
def test_bad_words_are_one_line(words, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *words])
    with pytest.raises(SystemExit) as stop:
        cli.run_command(COMMANDS)
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", line + "\n")


def test_the_part_is_that_of_a_slurm_array(monkeypatch):
    assert asked_part(None) == (0, 1)
    assert asked_part("2/5") == (2, 5)
    in_array(monkeypatch, 2, range(4))
    assert asked_part(None) == (2, 4)


@pytest.mark.parametrize("tasks", [[17], [5, 9], range(0, 84, 2), range(1, 84)])
def test_some_tasks_of_an_array_do_not_take_the_runs_of_others(tasks, monkeypatch):
    in_array(monkeypatch, tasks[0], tasks)
    with pytest.raises(ValueError, match="set PARTS to the number of tasks of the whole array"):
        asked_part(None)
    assert asked_part(f"{tasks[0]}/84") == (tasks[0], 84)


def in_array(monkeypatch, task, tasks):
    numbers = {"ID": task, "MIN": tasks[0], "MAX": tasks[-1], "COUNT": len(tasks)}
    for name, value in numbers.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))


def test_nothing_that_is_tracked_is_written_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    collect(scale="paper")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    page = tmp_path / "runs/paper/results/paper_claims.md"
    assert "[tables](paper_tables.md)" in page.read_text()
    collect(scale="small", write=Path("docs/results"), claims=Path("docs/claims.md"))
    assert "[tables](results/small_tables.md)" in (tmp_path / "docs/claims.md").read_text()
    assert not (tmp_path / "runs/small").exists()


@pytest.mark.parametrize(
    ("script", "table", "sizes"),
    [("cifar100_tables", 2, []), ("imagenet_subsets", 1, ["100 300 500"])],
)
def test_the_arrays_of_the_job_scripts_are_those_of_the_tables(script, table, sizes, capsys):
    text = (ROOT / f"slurm/{script}.sh").read_text()
    (last,) = re.findall(r"^#SBATCH --array=0-(\d+)$", text, re.M)
    assert f"TABLE={table} " in text
    task(int(last), str(table), sizes=sizes)
    *_, runs = capsys.readouterr().out.split()
    assert int(runs) == int(last) + 1
    with pytest.raises(ValueError, match=f"submit with sbatch --array=0-{last}"):
        task(int(last) + 1, str(table), sizes=sizes)


def test_other_methods_and_seeds(capsys):
    task(1, "2", methods=["msdnet hdkd"], sizes=["100"], seeds=["3"])
    assert capsys.readouterr().out.split() == ["hdkd", "100", "3", "2"]


def test_a_run_from_start_to_end(tmp_path):
    config = json.loads((ROOT / "ds_configs/quickstart.json").read_text())
    config["hdkd"]["schedule"] |= {"epochs": 1, "milestones": []}
    config["hdkd"]["run"] = {"wandb": "disabled", "log_every": 4}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    prepare_digits(tmp_path / "data/digits")
    bench = Bench("digits", str(file), ("full",), (), "full", {})
    scale = Scale("tiny", {"digits": bench}, (0,), (0,), tuned=False)
    ledger = Ledger.read(scale, Folders(tmp_path / "data", tmp_path / "runs"), tmp_path / "results")
    trial = Trial("tiny", bench, "full", "hdkd", test=False)
    assert execute(lambda: [trial], ledger, jobs=1, launcher=[sys.executable]) == {}
    record = ledger.records["digits-hdkd-seed0"]
    assert record.data == read_manifest(tmp_path / "data/digits").digest
    assert len(record.exits("val_top1")) == 3
    assert not record.has_test
    assert record.curve[-1]["step"] == record.values["train.steps"] == 17


def test_results_that_are_named_and_not_there_are_refused(tmp_path):
    """With a misspelt folder all runs would count as missing."""
    with pytest.raises(ValueError, match=r"--results .*nowhere is not there"):
        plan("2", "paper", results=tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out .*x cannot be used: .*file is no folder"):
        plan("2", "paper", out=tmp_path / "file/x")
