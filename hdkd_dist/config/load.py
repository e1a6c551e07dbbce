"""Load a run's configuration: one JSON file, DeepSpeed's own keys and the section "hdkd"."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from hdkd_dist.config.deepspeed import check_engine, check_finite, look_ahead_for, resolve_batch
from hdkd_dist.config.settings import RETIRED, ScheduleSettings, Settings
from hdkd_dist.data.order import BatchShare
from hdkd_dist.data.paths import own_folder
from hdkd_dist.files.strict_json import read_json_object
from hdkd_dist.models import spec_of
from hdkd_dist.models.factory import import_callable
from hdkd_dist.spelling import SETTINGS, did_you_mean

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
        beside = [".".join([SECTION, *sections, known]) for known in fields_of(sections)]
        hint = did_you_mean(where, beside) or did_you_mean(where, all_settings())
        return f"{where} is not a setting{hint} (known: {', '.join(fields_of(sections))})"
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


def all_settings(sections: Sequence[str] = ()) -> list[str]:
    """List the full names of all settings below a path of sections, and DeepSpeed's keys."""
    names: list[str] = [] if sections else list(SETTINGS)
    for name, field in fields_of(sections).items():
        if is_section(field.annotation):
            names += all_settings([*sections, name])
        else:
            names.append(".".join([SECTION, *sections, name]))
    return names


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
        epochs: replaces the schedule's; its milestones and warm-up are scaled along, unless they
            are among the overrides.

    Raises:
        ValueError: in one line, for whatever is wrong with it.
    """
    raw = read_json(find_config(path))
    if "hdkd.model.factory" in overrides:  # stands in for the file's network
        overrides = {"hdkd.model.preset": None, "hdkd.model.overrides": {}, **overrides}
    for key, value in overrides.items():
        override(raw, key, value)
    check_finite(raw, path)
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
        schedule = scaled_schedule(settings.schedule, epochs, overrides)
        settings = settings.model_copy(update={"schedule": schedule})
    if settings.run.out is None:
        named = f"runs/{Path(path).stem}-{settings.method}-seed{settings.run.seed}"
    out = str(own_folder(named if settings.run.out is None else settings.run.out))
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
        return read_json_object(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable JSON file: {error}") from None


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
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")):
            raise ValueError(f"--set {word}: write it as --set section.name=value")
        if key in settings:
            raise ValueError(f"--set {key} is given twice: {settings[key]} and {text}")
        try:
            settings[key] = json.loads(text)
        except json.JSONDecodeError:
            settings[key] = text
        except RecursionError:
            raise ValueError(f"--set {key} is nested too deeply") from None
    return settings


def scaled_schedule(
    schedule: ScheduleSettings, epochs: int, overrides: Mapping[str, Any]
) -> ScheduleSettings:
    """Stretch or shrink a schedule to another number of epochs, milestones and warm-up along.

    What is set by hand, among the overrides, is taken as it is.

    Raises:
        ValueError: for no positive number of epochs, and for one that is set by hand besides.
    """
    if epochs < 1:
        raise ValueError(f"--epochs is {epochs!r} but must be a positive integer")
    section = f"{SECTION}.schedule"
    by_hand = {key.removeprefix(f"{section}.") for key in overrides} | {*overrides.get(section, ())}
    if "epochs" in by_hand:
        raise ValueError(f"--epochs {epochs} and {section}.epochs are both given: leave out one")
    factor = epochs / schedule.epochs
    scaled = {
        "milestones": tuple(round(factor * epoch, 6) for epoch in schedule.milestones),
        "warmup_epochs": round(factor * schedule.warmup_epochs, 6),
    }
    kept = {name: value for name, value in scaled.items() if name not in by_hand}
    return schedule.model_copy(update={"epochs": epochs, **kept})


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
