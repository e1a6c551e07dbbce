"""Intervals and verdicts, by hand."""

from __future__ import annotations

import math

import pytest

from hdkd_dist.paper.statistics import Interval, interval, judge, together


def test_the_interval_is_students_t():
    found = interval([1.0, 2.0, 3.0])  # standard deviation 1; t(0.975, 2) = 4.30265
    assert (found.seeds, found.mean) == (3, 2.0)
    assert found.high - found.mean == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


@pytest.mark.parametrize("values", [[], [5.0]])
def test_one_seed_has_no_interval(values):
    assert interval(values) is None


@pytest.mark.parametrize(
    ("low", "high", "statement", "verdict"),
    [
        (0.1, 2, "above 0", "confirmed"),
        (-0.1, 2, "above 0", "undecided"),
        (-2, -0.1, "above 0", "refuted"),
        (-2, -0.1, "below 0", "confirmed"),
        (0.2, 0.9, "below 1", "confirmed"),
        (0.2, 1.1, "below 1", "undecided"),
        (1.1, 2, "below 1", "refuted"),
        (-0.9, 0.9, "within ±1", "confirmed"),
        (-1.1, 0.9, "within ±1", "undecided"),
        (-3, -1.1, "within ±1", "refuted"),
        (1.1, 3, "within ±1", "refuted"),
    ],
)
def test_verdicts(low, high, statement, verdict):
    assert judge(Interval(3, (low + high) / 2, low, high), statement) == verdict


def test_without_runs_nothing_is_decided():
    assert judge(None, "above 0") == "not enough runs yet"


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["confirmed", "confirmed"], "confirmed"),
        (["confirmed", "undecided"], "undecided"),
        (["undecided", "not enough runs yet"], "not enough runs yet"),
        (["not enough runs yet", "refuted"], "refuted"),
    ],
)
def test_a_claim_is_as_weak_as_its_weakest_statement(verdicts, whole):
    assert together(verdicts) == whole
