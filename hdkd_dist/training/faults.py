"""A faulty configuration in one line, from pydantic's account of it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from hdkd_dist.training.settings import Settings

SECTION = "hdkd"


def explain(error: ValidationError) -> str:
    """The first fault of a configuration in one line, with the nearest known name."""
    fault = error.errors()[0]
    sections, name = locate(fault["loc"])
    where = ".".join([SECTION, *sections, name])
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
