"""A run's configuration: one JSON file with DeepSpeed's own keys and the section "hdkd"."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hdkd_dist.config.deepspeed import check_engine, look_ahead_for, resolve_batch
from hdkd_dist.config.settings import RETIRED, ScheduleSettings, Settings
from hdkd_dist.data.order import BatchShare
from hdkd_dist.models import spec_of

SECTION = "hdkd"


def explain(error: ValidationError) -> str:
    """The first fault of a configuration in one line, with the nearest known name."""
    fault = error.errors()[0]
    sections, name = locate(fault["loc"])
    where = ".".join([SECTION, *sections, name])
    if advice := RETIRED.get(".".join([*sections, name])):
        return f"{where} is no longer a setting: {advice[1]}"
    if fault["type"] == "extra_forbidden":
        known = list(fields_of(sections))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
        return f"{where} is not a setting: did you mean {near}? (known: {', '.join(known)})"
    if fault["type"] == "missing":
        return f"{where} is missing"
    if fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"].replace(" or ", ", ").split(", ")
        known = [word.strip("'") for word in expected]
        near = difflib.get_close_matches(str(fault["input"]), known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{where} is {fault['input']!r} but must be one of {', '.join(known)}{hint}"
    if fault["type"] == "value_error":  # a rule of ours on a whole section
        return f"{where}: {fault['ctx']['error']}"
    return f"{where} is {fault['input']!r}: {fault['msg'].lower()}"


def locate(place: Sequence[int | str]) -> tuple[list[str], str]:
    """pydantic's location of a fault → the path of sections and the setting's name."""
    sections: list[str] = []
    for name in map(str, place):
        field = fields_of(sections).get(name)
        if field is None or not is_section(field.annotation):
            return sections, name
        sections.append(name)
    return sections[:-1], sections[-1]


def fields_of(sections: Sequence[str]) -> Mapping[str, Any]:
    """The settings in the section of :class:`Settings` at a path."""
    model: type[BaseModel] = Settings
    for name in sections:
        model = typing.cast(type[BaseModel], model.model_fields[name].annotation)
    return model.model_fields


def is_section(annotation: Any) -> bool:
    """Whether a setting's type is itself a group of settings."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@dataclass(frozen=True)
class Config:
    """A validated configuration, the section and the rest."""

    hdkd: Settings
    deepspeed: dict[str, Any]  # what DeepSpeed gets, the batch sizes resolved

    @property
    def share(self) -> BatchShare:
        """The training batch as one rank sees it (rank 0; see ``dataclasses.replace``)."""
        return BatchShare(
            batch=self.deepspeed["train_batch_size"],
            accumulation=self.deepspeed["gradient_accumulation_steps"],
            world_size=self.deepspeed["train_batch_size"]
            // self.deepspeed["gradient_accumulation_steps"]
            // self.deepspeed["train_micro_batch_size_per_gpu"],
        )

    def as_json(self) -> dict[str, Any]:
        """The file that repeats the run."""
        return {**self.deepspeed, SECTION: self.hdkd.model_dump(mode="json")}


def load_config(
    path: str | Path,
    overrides: Mapping[str, Any],
    world_size: int,
    epochs: int | None = None,
) -> Config:
    """Read, override, validate and resolve a configuration.

    Args:
        path: the JSON file.
        overrides: dotted keys, such as ``{"hdkd.gamma.lr": 0.01}``.
        world_size: the number of ranks, which the batch must fit.
        epochs: replaces the schedule's, milestones and warm-up scaled along.

    Raises:
        ValueError: in one line, for whatever is wrong with it.
    """
    raw = read_json(Path(path))
    if "hdkd.model.factory" in overrides:  # stands in for the file's network
        overrides = {"hdkd.model.preset": None, "hdkd.model.overrides": {}, **overrides}
    for key, value in overrides.items():
        override(raw, key, value)
    if SECTION not in raw:
        raise ValueError(f'{path} has no section "{SECTION}": see ds_configs/quickstart.json')
    section = raw.pop(SECTION)
    if not isinstance(section, Mapping):
        raise ValueError(f'{path}: the section "{SECTION}" is {section!r} but must be an object')
    try:
        settings = Settings.model_validate(section)
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error)}") from None
    check_network(settings, path)
    if epochs is not None:
        schedule = scaled_schedule(settings.schedule, epochs)
        settings = settings.model_copy(update={"schedule": schedule})
    if settings.run.out is None:
        out = f"runs/{Path(path).stem}-{settings.method}-seed{settings.run.seed}"
        settings = settings.model_copy(update={"run": settings.run.model_copy(update={"out": out})})
    check_engine(raw, path)
    deepspeed = resolve_batch(raw, world_size, path)
    gamma = settings.gamma
    if settings.gamma_learns:
        lookahead = look_ahead_for(gamma.lookahead, deepspeed, path)
        gamma = gamma.model_copy(update={"lookahead": lookahead})
    return Config(settings.model_copy(update={"gamma": gamma}), deepspeed)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"there is no configuration {path}: see ds_configs/") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a readable JSON file: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return raw


def override(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set ``raw["a"]["b"]["c"]`` for the key "a.b.c"."""
    *sections, name = key.split(".")
    place = raw
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ValueError(f"cannot set {key}: {section} is not a section")
    place[name] = value


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """``["hdkd.gamma.lr=0.01", …]`` → ``{"hdkd.gamma.lr": 0.01, …}``; values are JSON or text."""
    settings = {}
    for word in words:
        key, equals, text = str(word).partition("=")
        if not equals or not key:
            raise ValueError(f"--set {word}: write it as --set section.name=value")
        try:
            settings[key] = json.loads(text)
        except json.JSONDecodeError:
            settings[key] = text
    return settings


def scaled_schedule(schedule: ScheduleSettings, epochs: int) -> ScheduleSettings:
    """A schedule stretched or shrunk to another number of epochs, milestones and warm-up along."""
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"--epochs is {epochs!r} but must be a positive integer")
    factor = epochs / schedule.epochs
    return schedule.model_copy(
        update={
            "epochs": epochs,
            "milestones": tuple(factor * milestone for milestone in schedule.milestones),
            "warmup_epochs": factor * schedule.warmup_epochs,
        }
    )


def check_network(settings: Settings, path: str | Path) -> None:
    """Refuse unknown presets and overrides, and factories that cannot be imported."""
    if "num_classes" in settings.model.overrides:
        raise ValueError(f"{path}: hdkd.model.overrides.num_classes: the data set has its classes")
    try:
        spec_of(settings.model.model_dump())
    except ValueError as error:
        raise ValueError(f"{path}: hdkd.model: {error}") from None
