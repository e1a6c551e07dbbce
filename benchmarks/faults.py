"""Kill a run with SIGKILL again and again, resume it, and compare it with one left in peace.

    python benchmarks/faults.py --kills 20

The kills hit the preparation of the data, saves, evaluations, start-ups and steps, of all ranks or
of one.
The last line of stdout is a JSON object: how often the run was killed and resumed, how many steps
were computed again, whether any sample was lost or given to two steps of an epoch, and whether
weights and γ are equal to the bit to those of the run left in peace.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_ranks import ROOT, LocalRanks

SCRIPT = ROOT / "benchmarks/noting_train.py"
RUN = Path("run")
TIMES = ("images_per_s", "wait_fraction", "peak_memory_mb")  # of the machine, not of the run
CONFIG = {
    "train_batch_size": 64,
    "optimizer": {"type": "SGD", "params": {"momentum": 0.9, "weight_decay": 1e-4}},
    "hdkd": {
        "model": {"preset": "msdnet-digits"},
        "data": {"path": "digits", "metaval_batch_size": 48},
        "schedule": {"epochs": 4, "base_lr": 0.05, "base_batch": 64, "milestones": [2]},
        "gamma": {"lr": 0.01},
        "loss": {"temperature": "anneal"},
        "checkpoint": {"every_steps": 4},
        "run": {
            "log_every": 1,
            "wandb": "disabled",
            "test": False,
            "hang_timeout_s": 30,
            "deterministic": True,
        },
    },
}


class Attempt:
    """One start of the run, and what can be seen of it from outside."""

    def __init__(self, folder: Path, ranks: int, **options: Any):
        self.folder = folder
        self.steps_before = last_step(folder)
        words = ["--ds_config", "config.json", "--out", RUN, "--resume", "auto"]
        self.started = time.monotonic()
        self.ranks = LocalRanks(SCRIPT, words, ranks, folder, **options)

    def preparing(self) -> bool:
        """Whether the data set is being written."""
        return any((self.folder / "data").glob(".digits.partial-*"))

    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return any((self.folder / RUN / "checkpoints").glob(".step-*.partial"))

    def evaluating(self) -> bool:
        """Whether the last step of an epoch is recorded and its evaluation is not."""
        if " images/s" not in self.ranks.output:  # the records are still those of an earlier start
            return False
        events = read_events(self.folder)
        last = events[-1] if events else {"event": ""}
        return last["event"] == "step" and last["step"] % steps_per_epoch(self.folder) == 0

    def wait_until(self, moment: Callable[[], bool], patience: float = 120) -> bool:
        """Wait for a moment; False if the run ended before it."""
        end = time.monotonic() + patience
        while not moment():
            if not self.ranks.running or time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The complete lines of ``metrics.jsonl``."""
    file = folder / RUN / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def last_step(folder: Path) -> int:
    """The last step that is recorded."""
    return max((event["step"] for event in read_events(folder)), default=0)


def steps_per_epoch(folder: Path) -> int:
    """Whole batches in the training split."""
    manifest = json.loads((folder / "data/digits/manifest.json").read_text())
    return manifest["splits"]["train"]["samples"] // CONFIG["train_batch_size"]


def kill(attempt: Attempt, kind: str, chance: random.Random) -> str | None:
    """Wait for a moment of that kind and kill there; what was hit, None if the run ended before."""
    if kind == "start-up":
        delay = chance.uniform(0.5, 12)
        hit = attempt.wait_until(lambda: time.monotonic() - attempt.started > delay)
    elif kind == "step":
        target = attempt.steps_before + chance.randint(2, 9)
        hit = attempt.wait_until(lambda: last_step(attempt.folder) >= target)
        time.sleep(chance.uniform(0, 0.1))
    else:
        moment = {
            "preparation": attempt.preparing,
            "save": attempt.saving,
            "evaluation": attempt.evaluating,
        }[kind]
        hit = attempt.wait_until(moment)
    if not hit:
        return None
    victims = () if chance.random() < 0.7 else (chance.randrange(len(attempt.ranks.processes)),)
    attempt.ranks.send(signal.SIGKILL, *victims)
    killed = time.monotonic()
    statuses = attempt.ranks.wait(60)
    who = f"rank {victims[0]}" if victims else "all ranks"
    inside = "" if kind != "save" else f", inside the save: {attempt.saving()}"
    ended = f"exit {statuses} after {time.monotonic() - killed:.1f} s"
    return f"{kind}: {who} at step {last_step(attempt.folder)}, {ended}{inside}"


def interrupt_and_resume(folder: Path, ranks: int, kinds: list[str], chance: random.Random):
    """The run, killed once per kind; returns kills, resumes and steps computed again."""
    kills = resumes = repeated = 0
    waiting = list(kinds)
    while True:
        reached = last_step(folder)
        attempt = Attempt(folder, ranks)
        if kills:
            resumes += 1
        hit = kill(attempt, waiting[0], chance) if waiting else None
        if hit is None:
            statuses = attempt.ranks.wait()
            assert set(statuses) == {0}, (statuses, attempt.ranks.output)
        resumed_at = resumed_step(attempt.ranks.output)
        if resumed_at is not None:
            repeated += reached - resumed_at
        if hit is None:
            break
        kills += 1
        waiting.pop(0)
        print(f"kill {kills}: {hit}", flush=True)
    return kills, resumes, repeated


def resumed_step(output: str) -> int | None:
    """The step that a start went on from; None if it did not come so far."""
    for line in output.splitlines():
        if line.startswith("going on from"):
            return int(line.split(": step ")[1].split()[0])
    return 0 if "starts from the beginning" in output else None


def account(folder: Path, ranks: int, epochs: int) -> tuple[int, int]:
    """Samples of the training stream that no step of an epoch got, and that two steps got."""
    given: dict[tuple[int, int], list[int]] = {}
    for rank in range(ranks):
        last: dict[tuple[int, int], list[int]] = {}
        for line in (folder / f"samples{rank}.jsonl").read_text().splitlines():
            note = json.loads(line)
            if note["kind"] == "train":
                key = note["epoch"], note["step"]
                samples = [sample for micro in note["samples"] for sample in micro]
                assert last.setdefault(key, samples) == samples, "computed again on other samples"
        for key, samples in last.items():
            given.setdefault(key, []).extend(samples)
    batch, spe = CONFIG["train_batch_size"], steps_per_epoch(folder)
    lost = repeated = 0
    for epoch in range(epochs):
        times = Counter(sample for step in range(spe) for sample in given.get((epoch, step), []))
        lost += spe * batch - sum(times.values())
        repeated += sum(count - 1 for count in times.values())
    return lost, repeated


def without_times(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, without what depends on the machine's speed."""
    return [{k: v for k, v in e.items() if k not in TIMES} for e in read_events(folder)]


def moments(kills: int, chance: random.Random) -> list[str]:
    """What each kill is to hit; the first four are one of each kind."""
    first = ["preparation", "save", "evaluation", "step"]
    rest = chance.choices(["save", "evaluation", "start-up", "step"], k=max(0, kills - len(first)))
    return (first + rest)[:kills]


def compare(folder: Path, ranks: int, kills: int, chance: random.Random) -> dict[str, Any]:
    """Both runs, and how they compare."""
    peace, trouble = folder / "peace", folder / "trouble"
    for place in (peace, trouble):
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(CONFIG))
    killed, resumes, again = interrupt_and_resume(trouble, ranks, moments(kills, chance), chance)
    interrupt_and_resume(peace, ranks, [], chance)
    weights = [
        (place / RUN / "checkpoints/final/model.safetensors").read_bytes()
        for place in (peace, trouble)
    ]
    gamma = [
        json.loads((place / RUN / "results.json").read_text())["gamma"]
        for place in (peace, trouble)
    ]
    if killed < kills:
        print(f"the run was over after {killed} kills: give more --epochs")
    print(f"metrics equal: {without_times(peace) == without_times(trouble)}")
    lost, repeated = account(trouble, ranks, CONFIG["hdkd"]["schedule"]["epochs"])
    return {
        "kills": killed,
        "resumes": resumes,
        "steps_repeated": again,
        "samples_lost": lost,
        "samples_repeated": repeated,
        "weights_equal": weights[0] == weights[1],
        "gamma_equal": gamma[0] == gamma[1],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="default: enough for the kills, 4 at least")
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    given = parser.parse_args()
    # A kill comes up to an epoch later than the one before; most much sooner.
    epochs = given.epochs or max(CONFIG["hdkd"]["schedule"]["epochs"], 2 * given.kills // 5)
    CONFIG["hdkd"]["schedule"]["epochs"] = epochs
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).absolute()
        found = compare(folder, given.ranks, given.kills, random.Random(given.seed))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
