"""Start a run, kill it, start it again: a chain of starts of one command, and what came of it."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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

    def wait_until(self, moment: Callable[[], bool], patience: float = 600) -> bool:
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


@dataclass
class Chain:
    """What the starts of one run came to."""

    kills: int = 0
    resumed_at: list[int] = field(default_factory=list)  # step of each resume from a checkpoint
    steps_repeated: int = 0
    copies_refused: int = 0  # checkpoints under another step's name that were passed over

    def resumes_within_an_epoch(self, steps: int) -> int:
        """The most resumes that fell into one epoch of so many steps."""
        return max(Counter(step // steps for step in self.resumed_at).values(), default=0)


def interrupt_and_resume(
    folder: Path,
    ranks: Sequence[int],
    kinds: list[str],
    chance: random.Random | None,
    misname_after: int | None = None,
) -> Chain:
    """Run to the end, killed once per kind.

    Args:
        folder: with ``config.json``; the run is in ``folder / RUN``.
        ranks: their number, start by start; begins anew when it is used up.
        kinds: what each kill is to hit, see :func:`kill`.
        chance: when, and whom; unused without kills.
        misname_after: the kills after which a checkpoint is copied under a later step's name.
    """
    chain = Chain()
    waiting, starts = list(kinds), 0
    while True:
        misnamed = None
        if misname_after is not None and chain.kills >= misname_after:
            misnamed = misname(folder)
        reached = last_step(folder)
        attempt = Attempt(folder, ranks[starts % len(ranks)])
        starts += 1
        hit = kill(attempt, waiting[0], chance) if waiting else None
        if hit is None:
            statuses = attempt.ranks.wait()
            assert set(statuses) == {0}, (statuses, attempt.ranks.output)
        resumed_at = resumed_step(attempt.ranks.output)
        if resumed_at is not None:
            chain.steps_repeated += reached - resumed_at
            chain.resumed_at += [resumed_at] if resumed_at else []
        if misnamed is not None and f"{misnamed} is damaged" in attempt.ranks.output:
            chain.copies_refused += 1
            misname_after = None
        if hit is None:
            return chain
        chain.kills += 1
        waiting.pop(0)
        print(f"kill {chain.kills}: {hit}", flush=True)


def misname(folder: Path) -> str | None:
    """Copy the oldest checkpoint under the name of a step to come; that name, if there is one."""
    checkpoints = folder / RUN / "checkpoints"
    name = "step-00999999"
    found = sorted(path for path in checkpoints.glob("step-*") if ".aside" not in path.name)
    if not found:
        return None
    if not (checkpoints / name).exists():
        shutil.copytree(found[0], checkpoints / name)
    return name


def resumed_step(output: str) -> int | None:
    """The step that a start went on from; None if it did not come so far."""
    for line in output.splitlines():
        if line.startswith("going on from"):
            return int(line.split(": step ")[1].split()[0])
    return 0 if "starts from the beginning" in output else None


def account(folder: Path, epochs: int) -> tuple[int, int]:
    """Samples of the training stream that no step of an epoch got, and that two steps got."""
    # (epoch, step) → world size → rank → samples
    given: dict[tuple[int, int], dict[int, dict[int, list[int]]]] = {}
    for file in folder.glob("samples*.jsonl"):
        for line in file.read_text().splitlines():
            note = json.loads(line)
            if note["kind"] == "train":
                samples = [sample for micro in note["samples"] for sample in micro]
                place = given.setdefault((note["epoch"], note["step"]), {})
                parts = place.setdefault(note["world_size"], {})
                again = parts.setdefault(note["rank"], samples)
                assert again == samples, "computed again on other samples"
    batch, spe = CONFIG["train_batch_size"], steps_per_epoch(folder)
    lost = repeated = 0
    for epoch in range(epochs):
        times = Counter(
            sample for step in range(spe) for sample in batch_of(given.get((epoch, step), {}))
        )
        lost += spe * batch - sum(times.values())
        repeated += sum(count - 1 for count in times.values())
    return lost, repeated


def batch_of(place: dict[int, dict[int, list[int]]]) -> list[int]:
    """The samples that a step was given, over all ranks; equal for any number of them."""
    whole = [
        sorted(sample for part in parts.values() for sample in part)
        for world_size, parts in place.items()
        if len(parts) == world_size  # else a kill came in between
    ]
    assert all(samples == whole[0] for samples in whole), "another number of ranks, other samples"
    return whole[0] if whole else []


def without_times(folder: Path) -> list[dict[str, Any]]:
    """The events of a run, without what depends on the machine's speed."""
    return [{k: v for k, v in e.items() if k not in TIMES} for e in read_events(folder)]
