"""Read runs from their folders, finished or not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast

from hdkd_dist.method.weights import METHODS
from hdkd_dist.reporting.structure import (
    RecordedCalibration,
    RecordedErrors,
    RecordedPolicy,
    config_fault,
    is_measured,
    read_object,
    results_fault,
)
from hdkd_dist.runs import names
from hdkd_dist.runs.folder import CONFIG, METRICS, RESULTS
from hdkd_dist.runs.metrics import read_events
from hdkd_dist.runs.results import Results
from hdkd_dist.runs.schema import first_fault

Event = Mapping[str, Any]
UNKNOWN = "?"


@dataclass(frozen=True)
class RecordedRun:
    """Content of a run's three files: configuration, events and results; empty where one is not."""

    name: str  # unique among the runs of a page
    config: Mapping[str, Any]
    events: Sequence[Event]
    results: Results
    written: float  # when metrics.jsonl last grew, seconds since 1970
    notes: Sequence[str] = ()  # what could not be read

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return the configuration's section "hdkd"."""
        return self.config.get("hdkd", {})

    @property
    def method(self) -> str:
        """Name the method as the command line has it."""
        return str(self.settings.get("method") or self.results.get("method") or UNKNOWN)

    @property
    def title(self) -> str:
        """Name the method as the paper writes it."""
        return METHODS[self.method].title if self.method in METHODS else self.method

    @property
    def finished(self) -> bool:
        """Tell whether training ended and was measured."""
        return bool(self.results.get("exits"))

    @cached_property
    def steps(self) -> list[Event]:
        """List the records of training steps."""
        return [event for event in self.events if event["event"] == "step"]

    @cached_property
    def epochs(self) -> list[Event]:
        """List the records of validations."""
        return [event for event in self.events if event["event"] == "epoch" and "epoch" in event]

    @property
    def progress(self) -> str:
        """Say how far it is: "finished", or the last record's epoch and step."""
        if self.finished:
            return "finished"
        if not self.steps:
            return "no record yet"
        last = self.steps[-1]
        total = self.settings.get("schedule", {}).get("epochs", UNKNOWN)
        return f"epoch {last.get('epoch', 0) + 1} of {total}, step {last['step']:,}"

    @property
    def num_exits(self) -> int:
        """Count the exits, K; 0 before the first record."""
        recorded = self.members(names.TRAIN_TOP1)
        return max(len(self.validation), len(self.test), len(recorded))

    def members(self, group: str) -> list[str]:
        """List the names of a group that the run has recorded at its steps."""
        return names.members(group, self.steps[0]) if self.steps else []

    @cached_property
    def validation(self) -> list[float]:
        """Return top-1 accuracy per exit, now or at the end, in percent."""
        if self.finished:
            return [row["val_top1"] for row in self.results["exits"] if "val_top1" in row]
        return names.exits(names.VAL_TOP1, self.epochs[-1]) if self.epochs else []

    @property
    def test(self) -> list[float]:
        """Return top-1 test accuracy per exit in percent, once it was measured."""
        rows = self.results.get("exits", [])
        return [row["top1"] for row in rows] if rows and "top1" in rows[0] else []

    @property
    def mmac(self) -> list[float]:
        """Return millions of multiply-adds up to each exit; empty before the end."""
        return [row["mmac"] for row in self.results.get("exits", [])]

    @cached_property
    def budgeted(self) -> list[RecordedPolicy]:
        """List the policies for rising budgets; empty before evaluate.py, or of another version."""
        rows = cast(Any, self.results).get("budgeted", [])
        return [] if first_fault(rows, list[RecordedPolicy]) else rows

    @cached_property
    def calibration_errors(self) -> RecordedErrors | None:
        """Return the confidences' errors on test, 0..1; None before evaluate.py."""
        confidence = cast(Any, self.results).get("confidence")
        if first_fault(confidence, RecordedCalibration):
            return None
        return confidence["ece"]["test"]

    def speed(self, name: Literal["images_per_s", "wait_fraction"]) -> float | None:
        """Return the records' median, which leaves out the start, or else that of the whole run."""
        recorded = [event[name] for event in self.steps if name in event]
        if recorded:
            return median(recorded)
        return self.results["train"][name] if "train" in self.results else None

    @property
    def data(self) -> str:
        """Name the data's folder, without its path: CIFAR(150) is not CIFAR(500)."""
        path = self.settings.get("data", {}).get("path")
        return Path(str(path)).name if path else str(self.results.get("dataset", UNKNOWN))

    @property
    def preset(self) -> str:
        """Name the network."""
        model = self.settings.get("model", {})
        return str(model.get("preset") or model.get("factory") or UNKNOWN)

    @property
    def hours(self) -> float | None:
        """Return the hours of training, at the end."""
        return self.results["train"]["seconds"] / 3600 if "train" in self.results else None

    @property
    def sum_ratio(self) -> float | None:
        """Return Σγ/Σγ₀ now."""
        return self.steps[-1].get(names.GAMMA_SUM) if self.steps else None

    @cached_property
    def gamma_start(self) -> dict[str, float]:
        """Return γ₀ by name; before a run's end, γ at its first record."""
        shown = self.members(names.GAMMA)
        if self.results.get("gamma"):
            return names.gamma_by_name(self.results["gamma"]["initial"], shown)
        return {name: self.steps[0][name] for name in shown}

    @property
    def learns(self) -> bool:
        """Tell whether γ has moved."""
        start = self.gamma_start
        return any(event.get(name) != start[name] for event in self.steps[-1:] for name in start)


def read_runs(folders: Sequence[Path]) -> list[RecordedRun]:
    """Read the runs in these folders, which hold ``metrics.jsonl``; see :func:`run_folders`."""
    parent = Path(os.path.commonpath([folder.parent for folder in folders]))
    return [read_recorded_run(each, printable(each.relative_to(parent))) for each in folders]


def printable(path: Path) -> str:
    """Write a path in UTF-8; other bytes in it become \\xef and the like."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_recorded_run(folder: Path, name: str) -> RecordedRun:
    """Read one run; files that are missing or damaged are noted, for the others may be fine."""
    config, config_note = read_object(folder / CONFIG, config_fault)
    read, results_note = read_object(folder / RESULTS, results_fault)
    results = cast(Results, read or {})
    events, lines = read_measured(folder)
    exits = max((len(names.members(names.TRAIN_TOP1, event)) for event in events), default=0)
    if exits and len(results.get("exits", [])) not in (0, exits):
        results_note = f"{RESULTS} is not of the network of {METRICS}, of {exits} exits: left out"
        results = {}
    if config is None:
        config, config_note = {}, config_note or f"{CONFIG} is missing"
    return RecordedRun(
        name=name,
        config=config,
        events=events,
        results=results,
        written=(folder / METRICS).stat().st_mtime,
        notes=[note for note in (config_note, results_note, lines) if note],
    )


def read_measured(folder: Path) -> tuple[list[Event], str | None]:
    """Read the events that can be shown, and say what is wrong with the others."""
    try:
        recorded, unreadable = read_events(folder)
    except OSError as error:
        return [], f"{METRICS} cannot be read ({error.strerror})"
    events: list[Event] = [event for event in recorded if is_measured(event)]
    unreadable += len(recorded) - len(events)
    return events, f"{unreadable} line(s) of {METRICS} are cut or damaged" if unreadable else None


def comparable(runs: Sequence[RecordedRun]) -> dict[str, list[RecordedRun]]:
    """Group runs of the same network on the same data, two at least, by what they share."""
    groups: dict[str, list[RecordedRun]] = {}
    for run in runs:
        groups.setdefault(f"{run.preset} on {run.data}", []).append(run)
    return {title: members for title, members in groups.items() if len(members) > 1}


def differences(runs: Sequence[RecordedRun]) -> dict[str, list[str]]:
    """List the settings in which the runs' configurations differ, with each run's value.

    The run's own folder is left out; "–" where a configuration lacks the setting. Runs without a
    configuration have "–" everywhere.
    """

    def shown(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(names.plain(value))

    flat = [names.flatten(run.config) for run in runs]
    keys = {key: None for config in flat for key in config if key != "hdkd.run.out"}
    table = {key: [shown(config[key]) if key in config else "–" for config in flat] for key in keys}
    known = [bool(config) for config in flat]
    return {
        key: values
        for key, values in table.items()
        if len({value for value, has in zip(values, known, strict=True) if has}) > 1
    }
