"""What a report relies on in a run's files, which may be damaged or of another version."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator


class Part(BaseModel):
    """A part of a file; what is not named here is not read."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Model(Part):
    """The network."""

    preset: str = ""


class Data(Part):
    """Where the data lie."""

    path: str = ""


class Schedule(Part):
    """How long the run takes."""

    epochs: float = 0


class RunPart(Part):
    """Which of several runs it is."""

    seed: int = 0


class Settings(Part):
    """The section "hdkd"."""

    method: str = ""
    model: Model = Model()
    data: Data = Data()
    schedule: Schedule = Schedule()
    run: RunPart = RunPart()


class Config(Part):
    """``config.json``."""

    hdkd: Settings = Settings()


class Exit(Part):
    """One row of the results."""

    mmac: float
    val_top1: float
    top1: float = 0


class Weights(Part):
    """γ, [K] and [K, K]."""

    ce: list[float]
    kd: list[list[float]]


class Gamma(Part):
    """The weights at the start."""

    initial: Weights


class Train(Part):
    """How the training went."""

    images_per_s: float = 0
    wait_fraction: float = 0
    seconds: float = 0


class Results(Part):
    """``results.json``."""

    method: str = ""
    dataset: str = ""
    exits: list[Exit] = []
    gamma: Gamma | None = None
    train: Train = Train()

    @model_validator(mode="after")
    def _equally_many_exits(self) -> Results:
        exits, gamma = len(self.exits), self.gamma
        rows = [gamma.initial.ce, gamma.initial.kd, *gamma.initial.kd] if gamma and exits else []
        if any(len(row) != exits for row in rows):
            raise ValueError(f"gamma is not that of {exits} exits")
        return self


def read_object(file: Path, structure: type[Part]) -> tuple[dict[str, Any] | None, str | None]:
    """A file's JSON object, None if it is not there or not usable, and what is wrong with it."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        structure.model_validate(value)
    except FileNotFoundError:
        return None, None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        found = f"{place}: {fault['msg']}" if place else fault["msg"]
        return None, f"{file.name} is damaged or of another version ({found}): left out"
    except (OSError, ValueError) as error:
        return None, f"{file.name} cannot be read ({error})"
    return value, None


def is_measured(event: Mapping[str, Any]) -> bool:
    """Whether all that an event says are numbers, and finite."""
    return all(is_finite(value) for name, value in event.items() if name != "event")


def is_finite(value: object) -> bool:
    """Whether this is a finite number."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number that is none in floating point
        return False
