"""Intervals and verdicts, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hdkd_dist.paper.statistics import Interval, Noise, Run, interval, judge, noise_of, together


def runs(table, data="150"):
    """Method → values of the seeds; None for a run that is missing."""
    return {
        Run(data, method, str(seed)): value
        for method, values in table.items()
        for seed, value in enumerate(values)
        if value is not None
    }


def test_the_noise_of_two_methods_is_that_of_their_paired_differences():
    # The differences are 1, 2, 3: standard deviation 1, and that of one run 1/√2.
    found = noise_of(runs({"a": [5.0, 9.0, 2.0], "b": [6.0, 11.0, 5.0]}))
    assert (found.deviation, found.freedom) == (pytest.approx(math.sqrt(0.5)), 2)
    own = interval([1.0, 2.0, 3.0], 2, found)  # the usual paired interval; t(0.975, 2) = 4.30265
    low, high = own.bounds()
    assert (own.seeds, own.mean) == (3, 2.0)
    assert high - own.mean == pytest.approx(4.30265 / math.sqrt(3), abs=1e-4)
    assert own.mean - low == pytest.approx(high - own.mean)


def test_methods_seeds_and_data_sets_are_no_noise():
    luck = [0.0, 3.0, -1.0]
    few = runs({name: [base + each for each in luck] for name, base in (("a", 5), ("b", 9))})
    many = runs({name: [base - each for each in luck] for name, base in (("a", 50), ("b", 9))}, "9")
    found = noise_of({**few, **many})
    assert found.deviation == pytest.approx(0, abs=1e-9)
    assert found.freedom == 12 - 2 * (2 + 3 - 1)


def test_noise_comes_back_from_simulated_runs_of_which_some_are_missing():
    draw = np.random.default_rng(0)
    table = {
        f"method {m}": [10 * m + 5 * s + 0.5 * draw.standard_normal() for s in range(3)]
        for m in range(60)
    }
    for m in range(0, 60, 2):
        table[f"method {m}"][2] = None
    found = noise_of(runs(table))
    assert found.freedom == 150 - (60 + 3 - 1)
    assert found.deviation == pytest.approx(0.5, rel=0.15)


@pytest.mark.parametrize("table", [{}, {"a": [1.0, 2.0]}, {"a": [1.0], "b": [2.0]}])
def test_without_repetition_there_is_no_noise_to_see(table):
    assert noise_of(runs(table)) is None
    assert interval([1.0], 2, None) is None


def test_more_runs_in_a_difference_are_more_noise():
    noise = Noise(1.0, 10)
    assert interval([1.0, 1.0], 2, noise).error == pytest.approx(1)
    assert interval([1.0, 1.0], 4, noise).error == pytest.approx(math.sqrt(2))
    assert interval([], 2, noise) is None


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
    assert judge(between(low, high), statement) == verdict


def between(low, high):
    """An interval with these bounds."""
    return Interval(3, (low + high) / 2, (high - low) / 2 / 2.228139, 10)  # t(0.975, 10)


def test_one_of_several_statements_is_refuted_less_easily():
    assert judge(between(-2, -0.1), "above 0", among=6) == "undecided"
    assert judge(between(-2, -1.5), "above 0", among=6) == "refuted"
    assert judge(between(0.1, 2), "above 0", among=6) == "confirmed"


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
