"""Describe one training run of the studies: what is trained, its name, the commands that do it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hdkd_dist.config.deepspeed import look_ahead_for
from hdkd_dist.config.load import find_config, override, scaled_schedule
from hdkd_dist.config.settings import ScheduleSettings, Settings
from hdkd_dist.models import spec_of
from hdkd_dist.paper.scales import Bench, Scale, Setting, Size
from hdkd_dist.runs.gamma_curve import read_sum_curve

RATE = "hdkd.schedule.base_lr"
GAMMA_INIT, GAMMA_RATE = "hdkd.gamma.init", "hdkd.gamma.lr"
GAMMA_OPTIMIZER, GAMMA_CONSTRAINT = "hdkd.gamma.optimizer", "hdkd.gamma.constraint"
GAMMA_EVERY = "hdkd.gamma.every"


@dataclass(frozen=True)
class Source:
    """Name a finished run that another one builds on."""

    folder: Path  # with its results.json and metrics.jsonl
    rate: float  # schedule.base_lr


# What a run takes from the run it builds on, by name → settings.
FROM_SOURCE: dict[str, Callable[[Source], dict[str, Any]]] = {
    "final_gamma": lambda source: {GAMMA_INIT: f"fixed:{source.folder}"},
    "replayed_sum": lambda source: {"hdkd.gamma.replay_sum": str(source.folder)},
    "mean_sum_as_rate": lambda source: {RATE: source.rate * read_sum_curve(source.folder).mean},
}


@dataclass(frozen=True)
class Trial:
    """Describe a run by what distinguishes it; equal trials of two tables are run once.

    Attributes:
        scale: see there.
        bench: of the scale.
        size: of the data set.
        method: a row of the paper's comparison.
        variant: a word for what differs from the method as it is; "" for nothing.
        seed: see ``hdkd.run.seed``.
        settings: by dotted name, on top of the bench's configuration.
        takes: a key of ``FROM_SOURCE``, or None.
        source: the run from which that is taken.
        test: whether the test split is measured at the end; tuning never reads it.
    """

    scale: str
    bench: Bench
    size: Size
    method: str
    variant: str = ""
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    takes: str | None = None
    source: Trial | None = None
    test: bool = True

    @property
    def name(self) -> str:
        """Name the run's folder, and its row among the results."""
        parts = [self.bench.folder(self.size), self.method, self.variant, f"seed{self.seed}"]
        return "-".join(part for part in parts if part)

    @property
    def rate(self) -> float:
        """Return schedule.base_lr."""
        return self.settings.get(RATE, self.bench.read_config()["hdkd"]["schedule"]["base_lr"])

    def with_seed(self, seed: int) -> Trial:
        """Return the same, and what it builds on, with another seed."""
        source = self.source and self.source.with_seed(seed)
        return replace(self, seed=seed, source=source)

    @property
    def identity(self) -> dict[str, Any]:
        """Return all that decides the result: a finished run with the same is not repeated."""
        taken = {}
        if self.source:
            source = {"source": self.source.name, "source_digest": trial_digest(self.source)}
            taken = {"takes": self.takes, **source}
        config = {"config": self.bench.config, "digest": trial_digest(self)}
        return {**config, **self.settings, **taken}


def same_steps(bench: Bench, size: Size) -> Setting:
    """Stretch the schedule of a smaller data set to the steps of ``bench.same_steps_as``."""
    if bench.same_steps_as is None or size == bench.same_steps_as:
        return {}
    raw = bench.read_config()
    batch = raw["train_batch_size"]
    own, whole = (bench.train_images(each) // batch for each in (size, bench.same_steps_as))
    schedule = ScheduleSettings.model_validate(raw["hdkd"]["schedule"])
    stretched = scaled_schedule(schedule, round(schedule.epochs * whole / own), {})
    return {
        f"hdkd.schedule.{name}": value
        for name, value in stretched.model_dump(mode="json").items()
        if name in ("epochs", "milestones", "warmup_epochs")
    }


# Sections and settings that say where a run reads and writes, not what it computes.
_NOT_RESULTS: dict[str, Any] = {
    "data": {"path", "workers", "os_cache", "local_copy"},
    "checkpoint": True,
    "run": True,
}


# Settings that came after the first records were kept, at the value that changes nothing: a run
# that has it keeps the digest that it had before.
_NEUTRAL: dict[str, dict[str, Any]] = {
    "model": {
        "factory": None,
        "kwargs": {},
        "input_size": None,
        "init_from": None,
        "ema_decay": None,
    },
    "data": {
        "reader": "ffcv",
        "randaugment": None,
        "randaugment_operations": 2,
        "colour_jitter": 0.0,
    },
    "schedule": {"kind": "steps", "warmup_start": None},
    "loss": {"teachers": None, "label_smoothing": 0.0, "terms": {}},
}


def configuration(trial: Trial) -> dict[str, Any]:
    """Return the bench's configuration with the trial's settings."""
    raw = trial.bench.read_config()
    for key, value in {**trial.settings, "hdkd.method": trial.method}.items():
        override(raw, key, value)
    return raw


def settings_of(trial: Trial) -> Settings:
    """Give the section "hdkd" that the trial trains with, its look-ahead resolved."""
    raw = configuration(trial)
    settings = Settings.model_validate(raw["hdkd"])
    lookahead = look_ahead_for(settings.gamma.lookahead, raw)
    gamma = settings.gamma.model_copy(update={"lookahead": lookahead})
    return settings.model_copy(update={"gamma": gamma})


def trial_digest(trial: Trial) -> str:
    """Hash all that a run computes with, defaults and the network's preset included.

    A changed default is a changed run; a default written out is not, nor a new setting that is left
    at the value which changes nothing.
    """
    settings = settings_of(trial)
    section = settings.model_dump(mode="json", exclude=_NOT_RESULTS)
    if not settings.gamma_learns:  # then of these settings no other has an effect
        section["gamma"] = {name: section["gamma"][name] for name in ("init", "replay_sum")}
    for group, values in _NEUTRAL.items():
        for name, neutral in values.items():
            if name in section[group] and section[group][name] == neutral:
                del section[group][name]
    whole = {
        **configuration(trial),
        "hdkd": section,
        "network": asdict(spec_of(settings.model.model_dump())),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Folders:
    """Hold the folders of runs and data."""

    data: Path  # holds the prepared data sets
    out: Path  # gets the runs' folders

    def run(self, trial: Trial) -> Path:
        """Return the trial's folder."""
        return self.out / trial.name

    def data_set(self, trial: Trial) -> Path:
        """Return the prepared data set that the trial trains on."""
        return self.data / trial.bench.folder(trial.size)

    def source(self, source: Trial) -> Path:
        """Return the folder in which a run is laid out for those that build on it."""
        return self.out / "sources" / source.name


def place_of(scale: Scale, data: Path, out: Path | None) -> Folders:
    """Return the command line's folders."""
    return Folders(data, out or Path("runs", scale.name))


def train_words(trial: Trial, place: Folders, taken: Mapping[str, Any] | None = None) -> list[str]:
    """Return the arguments of train.py; ``taken``: settings that come from the run's source."""
    settings = {**trial.settings, **(taken or {})}
    words = ["--ds_config", os.path.relpath(find_config(trial.bench.config))]
    words += ["--method", trial.method, "--seed", str(trial.seed)]
    words += ["--data", str(place.data_set(trial))]
    words += ["--out", str(place.run(trial)), "--test", "false"]
    for key, value in settings.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def evaluate_words(trial: Trial, place: Folders) -> list[str]:
    """Return the arguments of evaluate.py, which reads the test split, once."""
    options = {"latency_batch": "1", **trial.bench.evaluation}
    words = ["--run", str(place.run(trial))]
    return [*words, *(word for name, value in options.items() for word in (f"--{name}", value))]
