"""Intervals and verdicts, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp, ttest_rel

from hdkd_dist.paper.judging.statistics import (
    LEVEL,
    LOOK_LEVEL,
    LOOKS,
    Interval,
    Noise,
    RunKey,
    counted,
    interval,
    judge_sign,
    judge_size,
    noise_of,
    own_interval,
    standard_errors,
    together,
)


def runs(table, data="150"):
    """Method → values of the seeds; None for a run that is missing."""
    return {
        RunKey(data, method, str(seed)): value
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


def test_two_methods_alone_are_a_paired_t_test():
    draw = np.random.default_rng(1)
    a, b = draw.normal(50, 2, 6), draw.normal(51, 2, 6)
    own = interval(list(b - a), 2, noise_of(runs({"a": a, "b": b})))
    expected = ttest_rel(b, a).confidence_interval(0.9)
    assert own.bounds(0.9) == pytest.approx((expected.low, expected.high))


def test_noise_is_the_interaction_of_a_two_way_analysis_of_variance():
    values = np.random.default_rng(2).normal(0, 1, (5, 8))  # methods × seeds, balanced
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    found = noise_of(runs({f"m{m}": row for m, row in enumerate(values)}))
    assert found.freedom == 4 * 7
    assert found.deviation == pytest.approx(math.sqrt((rest**2).sum() / (4 * 7)))


def test_an_interval_of_the_differences_alone_is_a_one_sample_t_test():
    differences = [1.0, 2.5, -0.5, 3.0]
    expected = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert own_interval(differences).bounds() == pytest.approx((expected.low, expected.high))
    assert own_interval([1.0]) is None


@pytest.mark.parametrize(
    ("low", "high", "statement", "sign"),
    [
        (0.1, 2, "above 0", "confirmed"),
        (-0.1, 2, "above 0", "undecided"),
        (-2, -0.1, "above 0", "reversed"),
        (-2, -0.1, "below 0", "confirmed"),
        (0.1, 2, "below 0", "reversed"),
        (-0.9, 2, "above −1", "confirmed"),
        (-3, -1.1, "above −1", "refuted"),
        (-0.9, 0.9, "within ±1", "confirmed"),
        (-1.1, 0.9, "within ±1", "undecided"),
        (-3, -1.1, "within ±1", "refuted"),
        (1.1, 3, "within ±1", "refuted"),
    ],
)
def test_signs(low, high, statement, sign):
    assert judge_sign(between(low, high), statement) == sign


@pytest.mark.parametrize(
    ("low", "high", "effect", "size"),
    [
        (0.5, 1.9, 4, "smaller than the paper's"),
        (-3, -1, 4, "smaller than the paper's"),
        (2.1, 3, 4, "compatible with the paper's"),
        (5, 9, 4, "compatible with the paper's"),
        (1.9, 4, 4, "undecided"),
        (-1.9, -0.5, -4, "smaller than the paper's"),
        (-3, -2.1, -4, "compatible with the paper's"),
        (-4, -1.9, -4, "undecided"),
    ],
)
def test_sizes_are_held_against_half_of_the_papers(low, high, effect, size):
    assert judge_size(between(low, high), effect) == size


def between(low, high):
    """An interval with these bounds."""
    return Interval(3, (low + high) / 2, (high - low) / 2 / 2.228139, 10)  # t(0.975, 10)


def test_one_of_several_statements_is_rejected_less_easily():
    assert judge_sign(between(-2, -0.1), "above 0", among=6) == "undecided"
    assert judge_sign(between(-2, -1.5), "above 0", among=6) == "reversed"
    assert judge_sign(between(0.1, 2), "above 0", among=6) == "confirmed"


def test_a_wider_interval_decides_less():
    assert judge_sign(between(0.1, 2), "above 0", LOOK_LEVEL) == "undecided"
    assert judge_size(between(0.5, 1.9), 4, LOOK_LEVEL) == "undecided"


@pytest.mark.parametrize(
    ("signs", "whole"),
    [
        (["confirmed", "confirmed"], "confirmed"),
        (["confirmed", "undecided"], "undecided"),
        (["undecided", "not enough runs yet"], "not enough runs yet"),
        (["not enough runs yet", "refuted"], "refuted"),
        (["confirmed", "reversed"], "refuted"),
        (["reversed", "reversed"], "reversed"),
    ],
)
def test_a_claim_is_as_weak_as_its_weakest_statement(signs, whole):
    assert together(signs) == whole


def test_verdicts_are_counted():
    assert counted(["confirmed"] * 3) == "confirmed"
    assert counted(["undecided", "confirmed", "undecided"]) == "2 undecided, 1 confirmed"
    assert counted([]) == ""


def rejections(level, studies=20_000):
    """How often a study without any effect decides a sign at one of the looks.

    Five methods × eight seeds; the difference of two of them, with the noise of all.
    """
    values = np.random.default_rng(3).normal(0, 1, (studies, 5, max(LOOKS)))
    rejected = np.zeros(studies, bool)
    for seeds in LOOKS:
        own = values[:, :, :seeds]
        rest = own - own.mean(1, keepdims=True) - own.mean(2, keepdims=True)
        rest += own.mean((1, 2), keepdims=True)
        freedom = 4 * (seeds - 1)
        error = np.sqrt((rest**2).sum((1, 2)) / freedom * 2 / seeds)
        mean = (own[:, 1] - own[:, 0]).mean(1)
        rejected |= abs(mean) > standard_errors(level, freedom) * error
    return rejected.mean()


def test_four_looks_keep_the_level_of_one():
    assert norm.ppf((1 + LOOK_LEVEL) / 2) == pytest.approx(2.36, abs=0.005)  # Pocock's constant
    assert 0.04 < rejections(LOOK_LEVEL) < 0.06
    assert rejections(LEVEL) > 0.1  # what the plain level would do
