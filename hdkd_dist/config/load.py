"""Load a run's configuration: one JSON file, DeepSpeed's own keys and the section "hdkd"."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hdkd_dist.config.deepspeed import check_engine, look_ahead_for, resolve_batch
from hdkd_dist.config.settings import RETIRED, ScheduleSettings, Settings
from hdkd_dist.config.spelling import did_you_mean
from hdkd_dist.data.order import BatchShare
from hdkd_dist.models import spec_of
from hdkd_dist.models.factory import import_callable

SECTION = "hdkd"
SHIPPED = Path(__file__).parents[1] / "ds_configs"  # the configurations that the package brings


def explain(error: ValidationError) -> str:
    """Explain the first fault of a configuration in one line, with the nearest known name."""
    fault = error.errors()[0]
    sections, name = locate(fault["loc"])
    where = ".".join([SECTION, *sections, name])
    if advice := RETIRED.get(".".join([*sections, name])):
        return f"{where} is no longer a setting: {advice[1]}"
    if fault["type"] == "extra_forbidden":
        known = list(fields_of(sections))
        hint = did_you_mean(name, known, similarity=0)
        return f"{where} is not a setting{hint} (known: {', '.join(known)})"
    if fault["type"] == "missing":
        return f"{where} is missing"
    if fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"].replace(" or ", ", ").split(", ")
        known = [word.strip("'") for word in expected]
        hint = did_you_mean(str(fault["input"]), known)
        return f"{where} is {fault['input']!r} but must be one of {', '.join(known)}{hint}"
    if fault["type"] == "value_error":  # a rule of ours on a whole section
        return f"{where}: {fault['ctx']['error']}"
    return f"{where} is {fault['input']!r}: {fault['msg'].lower()}"


def locate(place: Sequence[int | str]) -> tuple[list[str], str]:
    """Turn pydantic's location of a fault into the path of sections and the setting's name."""
    sections: list[str] = []
    for name in map(str, place):
        field = fields_of(sections).get(name)
        if field is None or not is_section(field.annotation):
            return sections, name
        sections.append(name)
    return sections[:-1], sections[-1]


def fields_of(sections: Sequence[str]) -> Mapping[str, Any]:
    """List the settings in the section of :class:`Settings` at a path."""
    model: type[BaseModel] = Settings
    for name in sections:
        model = typing.cast(type[BaseModel], model.model_fields[name].annotation)
    return model.model_fields


def is_section(annotation: Any) -> bool:
    """Tell whether a setting's type is itself a group of settings."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@dataclass(frozen=True)
class Config:
    """A validated configuration, the section and the rest."""

    hdkd: Settings
    deepspeed: dict[str, Any]  # what DeepSpeed gets, the batch sizes resolved

    @property
    def share(self) -> BatchShare:
        """Describe the training batch as rank 0 sees it; ``dataclasses.replace`` gives others."""
        return BatchShare(
            batch=self.deepspeed["train_batch_size"],
            accumulation=self.deepspeed["gradient_accumulation_steps"],
            world_size=self.deepspeed["train_batch_size"]
            // self.deepspeed["gradient_accumulation_steps"]
            // self.deepspeed["train_micro_batch_size_per_gpu"],
        )

    @property
    def out(self) -> str:
        """Return the run's folder, which :func:`load_config` has filled in.

        Raises:
            ValueError: if it is not filled in.
        """
        if self.hdkd.run.out is None:
            raise ValueError("hdkd.run.out is not set: give --out")
        return self.hdkd.run.out

    def as_json(self) -> dict[str, Any]:
        """Return the content of a file that repeats the run."""
        return {**self.deepspeed, SECTION: self.hdkd.model_dump(mode="json")}


def load_config(
    path: str | Path,
    overrides: Mapping[str, Any],
    world_size: int,
    epochs: int | None = None,
) -> Config:
    """Read, override, validate and resolve a configuration.

    Args:
        path: the JSON file, see :func:`find_config`.
        overrides: dotted keys, such as ``{"hdkd.gamma.lr": 0.01}``.
        world_size: the number of ranks, which the batch must fit.
        epochs: replaces the schedule's, milestones and warm-up scaled along.

    Raises:
        ValueError: in one line, for whatever is wrong with it.
    """
    raw = read_json(find_config(path))
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


def find_config(path: str | Path) -> Path:
    """Find a configuration's file: the one at ``path``, otherwise a shipped one of that name.

    ``quickstart.json`` and ``ds_configs/quickstart.json`` find the shipped one from any folder.

    Raises:
        ValueError: if there is neither.
    """
    file = Path(path)
    shipped = SHIPPED / file.name
    if file.exists():
        return file
    if file in (Path(file.name), Path("ds_configs", file.name)) and shipped.is_file():
        return shipped
    known = ", ".join(sorted(each.name for each in SHIPPED.glob("*.json")))
    raise ValueError(
        f"there is no configuration {path}: give a JSON file, or one of those in ds_configs/: "
        f"{known}"
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
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
    """Parse ``["hdkd.gamma.lr=0.01", …]`` to ``{"hdkd.gamma.lr": 0.01, …}``: JSON or text."""
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
    """Stretch or shrink a schedule to another number of epochs, milestones and warm-up along."""
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
    """Refuse unknown presets and overrides, factories and losses that cannot be imported."""
    if "num_classes" in settings.model.overrides:
        raise ValueError(f"{path}: hdkd.model.overrides.num_classes: the data set has its classes")
    try:
        spec_of(settings.model.model_dump())
    except ValueError as error:
        raise ValueError(f"{path}: hdkd.model: {error}") from None
    try:
        for term in settings.loss.terms:
            import_callable(term, "loss")
    except ValueError as error:
        raise ValueError(f"{path}: hdkd.loss.terms: {error}") from None
