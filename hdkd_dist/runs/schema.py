"""Check that a value read from JSON has the structure that a ``TypedDict`` states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

WORDS = {str: "a word", int: "a whole number", float: "a finite number"}


def first_fault(value: object, structure: Any) -> str | None:
    """Name the first part of a value that is not as its type states; None where all is well.

    Args:
        value: from :func:`json.loads`.
        structure: a ``TypedDict``, ``list[…]`` or ``dict[str, …]`` of such, str, int or float,
            or one of these ``| None``.
            Keys that a ``TypedDict`` does not know are not looked at.

    Returns:
        ``exits.0.mmac is not a finite number``, ``exits.0.mmac is missing``, …
    """
    return next(faults(value, structure, ()), None)


def faults(value: object, structure: Any, place: tuple[str, ...]) -> Iterator[str]:
    """Name every part of a value that is not as its type states; ``place`` leads to the value."""
    where = ".".join(place) or "the file"
    if get_origin(structure) is UnionType:  # X | None
        if value is not None:
            yield from faults(value, get_args(structure)[0], place)
    elif is_typeddict(structure) or get_origin(structure) is dict:
        if not isinstance(value, Mapping):
            yield f"{where} is not an object"
        elif is_typeddict(structure):
            known = get_type_hints(structure)
            for name in sorted(structure.__required_keys__ - value.keys()):
                yield f"{'.'.join([*place, name])} is missing"
            for name in known.keys() & value.keys():
                yield from faults(value[name], known[name], (*place, name))
        else:
            for name, part in value.items():
                yield from faults(part, get_args(structure)[1], (*place, name))
    elif get_origin(structure) is list:
        if not isinstance(value, list):
            yield f"{where} is not a list"
        else:
            for number, part in enumerate(value):
                yield from faults(part, get_args(structure)[0], (*place, str(number)))
    elif not is_of_kind(value, structure):
        yield f"{where} is not {WORDS[structure]}"


def is_of_kind(value: object, kind: type) -> bool:
    """Tell whether a value is a word, a whole number or a finite number, as ``kind`` asks."""
    return is_finite(value) if kind is float else type(value) is kind


def is_finite(value: object) -> bool:
    """Tell whether this is a finite number; true and false are none."""
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:  # a whole number that has no floating-point value
        return False
