"""Check a run's files, which may be damaged or of another version, before a report shows them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

from hdkd_dist.runs.results import Results
from hdkd_dist.runs.schema import faults, first_fault, is_finite

SHOWN = ("method", "dataset", "exits", "gamma", "train")  # of results.json


class RecordedModel(TypedDict, total=False):
    """Part of ``config.json`` that names the network."""

    preset: str


class RecordedData(TypedDict, total=False):
    """Part of ``config.json`` that names the data."""

    path: str


class RecordedSchedule(TypedDict, total=False):
    """Part of ``config.json`` that says how long the run takes."""

    epochs: float


class RecordedSeed(TypedDict, total=False):
    """Part of ``config.json`` that tells runs of the same settings apart."""

    seed: int


class RecordedSettings(TypedDict, total=False):
    """Settings of the section "hdkd" that a report shows; other versions may have other ones."""

    method: str
    model: RecordedModel
    data: RecordedData
    schedule: RecordedSchedule
    run: RecordedSeed


class RecordedConfig(TypedDict, total=False):
    """Part of ``config.json`` that a report shows."""

    hdkd: RecordedSettings


class RecordedPolicy(TypedDict):
    """Part of a row of ``budgeted`` in ``results.json`` that a report shows."""

    mmac: float
    top1: float


class RecordedErrors(TypedDict):
    """Calibration errors of both kinds of confidence, [K] each."""

    max_probability: list[float]
    calibrated: list[float]


class RecordedTestErrors(TypedDict):
    """Calibration errors on the test split."""

    test: RecordedErrors


class RecordedCalibration(TypedDict):
    """Part of ``confidence`` in ``results.json`` that a report shows."""

    ece: RecordedTestErrors


def config_fault(config: object) -> str | None:
    """Name what a report cannot show of ``config.json``; None where all is well."""
    return first_fault(config, RecordedConfig)


def results_fault(results: object) -> str | None:
    """Name what a report cannot show of ``results.json``; None where all is well."""
    if not isinstance(results, Mapping):
        return first_fault(results, Results)
    structure = get_type_hints(Results)
    for name in SHOWN:
        found = faults(results[name], structure[name], (name,)) if name in results else iter(())
        if fault := next(found, None):
            return fault
    exits = len(results.get("exits", []))
    if exits and "gamma" in results:
        initial = results["gamma"]["initial"]
        if any(len(row) != exits for row in (initial["ce"], initial["kd"], *initial["kd"])):
            return f"gamma is not that of {exits} exits"
    return None


def read_object(
    file: Path, fault_of: Callable[[object], str | None]
) -> tuple[dict[str, Any] | None, str | None]:
    """Read a file's JSON object, None if it is missing or not usable, and say what is wrong."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError) as error:
        return None, f"{file.name} cannot be read ({error})"
    if fault := fault_of(value):
        return None, f"{file.name} is damaged or of another version ({fault}): left out"
    return value, None


def is_measured(event: Mapping[str, Any]) -> bool:
    """Tell whether all that an event says are finite numbers."""
    return all(is_finite(value) for name, value in event.items() if name != "event")
