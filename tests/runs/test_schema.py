"""Values read from JSON, held against a structure."""

from __future__ import annotations

import math
from typing import TypedDict

import pytest

from hdkd_dist.runs.schema import first_fault, is_finite


class Row(TypedDict):
    name: str
    size: float


class Marked(Row, total=False):
    mark: int


class Table(TypedDict, total=False):
    rows: list[Marked]
    by_name: dict[str, list[float]]
    known: list[float | None]


GOOD = {"rows": [{"name": "a", "size": 1}, {"name": "b", "size": 0.5, "mark": 2}]}
FAULTS = {
    "the file is not an object": [1],
    "rows is not a list": {"rows": None},
    "rows.1.size is missing": {"rows": [GOOD["rows"][0], {"name": "b"}]},
    "rows.0.name is not a word": {"rows": [{"name": 3, "size": 1.0}]},
    "rows.0.size is not a finite number": {"rows": [{"name": "a", "size": math.nan}]},
    "rows.0.mark is not a whole number": {"rows": [{"name": "a", "size": 1, "mark": True}]},
    "by_name.x.1 is not a finite number": {"by_name": {"x": [1, "2"]}},
    "known.1 is not a finite number": {"known": [None, "2"]},
}


def test_what_is_as_stated_has_no_fault():
    assert first_fault({**GOOD, "by_name": {"x": [1, 2.5]}, "unknown": object()}, Table) is None
    assert first_fault({}, Table) is None
    assert first_fault({"known": [None, 0.5]}, Table) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_fault_is_named_with_its_place(fault):
    assert first_fault(FAULTS[fault], Table) == fault


@pytest.mark.parametrize(
    ("value", "finite"),
    [(1, True), (0.5, True), (True, False), ("1", False), (math.inf, False), (10**400, False)],
)
def test_numbers(value, finite):
    assert is_finite(value) == finite
