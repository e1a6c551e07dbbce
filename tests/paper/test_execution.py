"""Working through runs: order, resuming, stopping. Training itself is a stand-in of a few lines
here, for it takes minutes; tests/test_reproduce.py runs the real one.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
import torch

from hdkd_dist.paper import execution
from hdkd_dist.paper.execution import ROOT, execute, searched_path, slots
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.queue import known_trials, study_trials
from hdkd_dist.paper.scales import SCALES, Bench, Scale
from hdkd_dist.paper.trials import RATE, Folders
from hdkd_dist.paper.tuning import NETWORK_SEED, RULE_SEEDS

# Notes when it ran; a run called "dbt" fails as long as there is no file "mended".
STAND_IN = """
import json, os, pathlib, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = pathlib.Path(words.get("--out") or words["--run"])
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(f"{pathlib.Path(__file__).stem} {folder.name} {sorted(os.sched_getaffinity(0))}\\n")
if "-dbt-" in folder.name and not (here / "mended").exists():
    sys.exit("broken")
if (here / "slow").exists():
    import signal
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
    (here / "waiting").touch()
    time.sleep(60)
folder.mkdir(exist_ok=True)
rows = [{"val_top1": 1.0, "val_top5": 60.0 + 3 * k, "top1": 2.0, "top5": 3.0} for k in range(3)]
results = {"exits": rows, "train": {"seconds": 1.0}, "gamma": {"ce": [1.0], "kd": [[0.0]]}}
(folder / "results.json").write_text(json.dumps(results))
steps = [
    {"event": "step", "step": k, "images_per_s": 5.0, "gamma_sum_ratio": k / 2, "gamma/ce_1": k / 2}
    for k in (2, 3)
]
(folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\\n" for step in steps))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("train", "evaluate"):
        (tmp_path / f"{name}.py").write_text(STAND_IN)
        monkeypatch.setattr(execution, name.upper(), tmp_path / f"{name}.py")
    return tmp_path


def ledger(here) -> Ledger:
    bench = Bench("cifar100", "ds_configs/cifar100.json", (150,), (150,), 150, {})
    scale = Scale("tiny", {"cifar100": bench}, (0, 1), (0,), tuned=False)
    return Ledger.read(scale, Folders(here / "data", here / "runs"), here / "results")


def work(kept, study="2", jobs=1, only=lambda trial: True):
    trials = [trial for trial in study_trials(study, kept) if only(trial)]
    return execute(lambda: trials, kept, jobs)


def calls(here):
    return [line.split(" ", 2) for line in (here / "calls").read_text().splitlines()]


def of_seed_0(trial):
    return trial.seed == 0


def test_a_failed_run_does_not_stop_the_others_and_is_done_again(here):
    kept = ledger(here)
    failed = work(kept, only=of_seed_0)
    assert failed == {"cifar100-150-dbt-seed0": 1}
    assert "broken" in (here / "runs/cifar100-150-dbt-seed0.log").read_text()
    assert len(kept.records) == 6
    trained = [name for script, name, _ in calls(here) if script == "train"]
    assert [name.split("-")[2] for name in trained] == [
        *("msdnet", "dbt", "impr", "naive_dkd", "hmsdnet", "hdbt", "hdkd"),
    ]
    (here / "mended").touch()
    (here / "calls").unlink()
    again = ledger(here)
    again.look(study_trials("2", again))
    assert work(again, only=of_seed_0) == {}
    assert [call[:2] for call in calls(here)] == [
        ["train", "cifar100-150-dbt-seed0"],
        ["evaluate", "cifar100-150-dbt-seed0"],
    ]


def test_what_was_collected_is_finished_without_its_folders(here):
    (here / "mended").touch()
    first = ledger(here)
    work(first, only=of_seed_0)
    first.save()
    for log in (here / "runs").iterdir():
        log.rename(here / f"moved-{log.name}")
    fresh = ledger(here)
    assert all(map(fresh.has, filter(of_seed_0, study_trials("2", fresh))))
    assert work(fresh, only=of_seed_0) == {}
    assert not list((here / "runs").iterdir())
    # A control takes the course of γ from there.
    assert work(fresh, "controls", only=lambda trial: of_seed_0(trial) and trial.source) == {}
    source = here / "runs/sources/cifar100-150-hdkd-seed0/metrics.jsonl"
    assert json.loads(source.read_text().splitlines()[-1])["gamma_sum_ratio"] == 1.5


def test_a_run_waits_for_what_it_builds_on(here):
    kept = ledger(here)
    trials = [
        trial
        for trial in study_trials("controls", kept)
        if trial.name.endswith("hdkd-seed0")
        or (trial.source and trial.source.name.endswith("hdkd-seed0"))
    ]
    assert execute(lambda: trials[::-1], kept, 1) == {}
    trained = [name for script, name, _ in calls(here) if script == "train"]
    assert trained[0] == "cifar100-150-hdkd-seed0"
    assert len(trained) == 3


def test_side_by_side_each_has_a_core(here):
    (here / "mended").touch()
    own = sorted(os.sched_getaffinity(0))[:2]  # on a machine of one core: that one
    work(ledger(here), jobs=len(own), only=of_seed_0)
    assert {cores for _, _, cores in calls(here)} == {f"[{core}]" for core in own}


def test_no_more_side_by_side_than_there_are_cores():
    with pytest.raises(ValueError, match="--jobs 1000 is more than the"):
        slots(1000)


@pytest.mark.parametrize(
    ("inherited", "taken"),
    [(None, ["0", "1"]), ("4,5,6", ["4", "5"]), ("GPU-8e1,GPU-f02", ["GPU-8e1", "GPU-f02"])],
)
def test_side_by_side_each_has_a_device_of_those_that_are_its_own(monkeypatch, inherited, taken):
    count = 3 if inherited is None else len(inherited.split(","))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    if inherited is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots(2)] == taken


def test_runs_may_share_a_device(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    shared = slots(5, per_device=3)
    taken = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in shared]
    assert taken == ["4", "5", "4", "5", "4"]
    assert {slot.environment["OMP_NUM_THREADS"] for slot in shared} == {"1"}
    with pytest.raises(ValueError, match=r"--jobs 7 is more than the 2 devices .*--per_device"):
        slots(7, per_device=3)


def test_cores_are_not_shared(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="--per_device 2 is for GPUs"):
        slots(2, per_device=2)


def test_a_run_finds_what_its_caller_finds(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"/elsewhere{os.pathsep}/more")
    assert searched_path().split(os.pathsep) == [str(ROOT), "/elsewhere", "/more"]
    monkeypatch.delenv("PYTHONPATH")
    assert searched_path() == str(ROOT)


def test_what_the_stages_choose_reaches_the_blocks(here):
    """One call works through the stages and goes on with what they have chosen."""
    (here / "mended").touch()
    small = SCALES["small"]
    kept = Ledger.read(small, Folders(here / "data", here / "runs"), here / "results")
    studies = ("stage0", "stage0b", "block1")
    begun = known_trials(studies, kept)
    assert {trial.method for trial in begun} == {"msdnet"}

    def find():
        return [t for t in known_trials(studies, kept) if t.seed in (0, *RULE_SEEDS, NETWORK_SEED)]

    assert execute(find, kept, 1) == {}
    trained = [name for script, name, _ in calls(here) if script == "train"]
    assert [name.split("-")[2] for name in trained[-5:]] == [
        *("msdnet", "dbt", "naive_dkd", "hdbt", "hdkd"),
    ]
    assert "stage0b-fixed_norm" in trained[-6]
    assert not any(script == "evaluate" and "stage" in name for script, name, _ in calls(here))
    # All candidates are alike here, and the first is taken.
    rule = {"hdkd.gamma.lr": 0.002, "hdkd.gamma.optimizer": "adam"}
    for method, settings in (("dbt", {}), ("hdkd", rule)):
        identity = kept.records[f"cifar100-150-{method}-seed0"].identity
        assert identity.items() >= {RATE: 0.05, **settings}.items()
        assert ("hdkd.gamma.lr" in identity) == bool(settings)
    # So it does when a block is asked for alone, before anything has been collected.
    alone = Ledger.read(small, kept.place, kept.results)
    assert {trial.method for trial in known_trials(["block1"], alone)} >= {"msdnet", "hdkd"}


def test_a_request_to_stop_reaches_the_run_and_ends_the_work(here):
    (here / "slow").touch()

    def stop():
        while not (here / "waiting").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=stop).start()
    assert work(ledger(here)) == {"cifar100-150-msdnet-seed0": 75}
    assert len(calls(here)) == 1


def test_a_run_with_other_settings_is_not_taken_for_finished(here):
    kept = ledger(here)
    work(kept, only=lambda trial: trial.name == "cifar100-150-msdnet-seed0")
    done = here / "runs/cifar100-150-msdnet-seed0/trial.json"
    other = {"identity": {"config": "ds_configs/imagenet.json"}, "data": ""}
    done.write_text(json.dumps(other))
    other = ledger(here)
    with pytest.raises(ValueError, match=r"with other settings \(config 'ds_configs/im"):
        other.look(study_trials("2", other))
    done.write_text('{"config": 3}')
    with pytest.raises(ValueError, match=r"trial\.json is damaged or of another version"):
        other.look(study_trials("2", other))
