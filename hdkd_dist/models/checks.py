"""Checks of a specification's fields, so that a bad override fails with one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, get_args

from hdkd_dist.models.layers import Stem


def check_fields(spec: Any) -> None:
    """Check each field of the dataclass ``spec`` against the rule for its annotated type.

    Raises:
        ValueError: naming the field, what it must be and what it is.
    """
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        holds, wording = _RULES[field.type]
        if not holds(value):
            raise ValueError(f"{field.name} must be {wording}, not {value!r}")


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_positive(value: object) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(map(_is_positive, value))


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _one_of(names: Sequence[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}"


_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "int": (_is_positive, "a positive integer"),
    "int | None": (
        lambda value: value is None or _is_positive(value),
        "a positive integer or none",
    ),
    "tuple[int, ...]": (_are_positive, "a list of positive integers"),
    "float": (_is_share, "a number above 0 and at most 1"),
    "Stem": (lambda value: value in get_args(Stem), _one_of(get_args(Stem))),
}
