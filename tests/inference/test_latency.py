"""Times of stages and policies."""

from __future__ import annotations

import numpy as np
import pytest

from hdkd_dist.evaluation.measures import latency_results
from hdkd_dist.inference.latency import StageTimes, measure_stages, percentiles_ms, sizes_up_to
from hdkd_dist.inference.torch_stages import TorchStages
from hdkd_dist.models import build

TIMES = StageTimes([1, 10], np.array([[[1.0, 2.0]], [[4.0, 11.0]]]))


def test_expected_time_of_a_policy():
    assert TIMES.ms_per_image(10) == pytest.approx([400, 1500])
    assert TIMES.expected_ms(10, [1, 0]) == pytest.approx(400)
    assert TIMES.expected_ms(10, [0, 1]) == pytest.approx(1500)
    # half of ten: between 1 (2 s) and 10 (11 s), 6 s
    assert TIMES.expected_ms(10, [0.5, 0.5]) == pytest.approx(100 * (4 + 6))
    assert TIMES.expected_ms(1, [0.5, 0.5]) == pytest.approx(1000 * (1 + 0.5 * 2))


def test_policies_in_time_are_judged_by_the_smaller_batches_of_later_stages():
    rows = [{"val_shares": [first, 1 - first], "shares": [0.5, 0.5]} for first in (1.0, 0.8, 0.0)]
    expected = [1000 * seconds / 10 for seconds in (4, 4 + 3, 4 + 11)]  # 2 of 10: 2 + 9/9
    for count, budget in enumerate(expected, start=1):
        assert TIMES.affordable(rows, 10, budget + 1e-6) == rows[:count]
    assert TIMES.affordable(rows, 10, expected[0] - 1) == []
    timed = latency_results([{**row, "budget_mmac": 1} for row in rows], TIMES, "cpu")
    assert timed["latency"]["ms_per_image"] == pytest.approx([400, 1500])
    assert timed["latency"]["batch_ms"][1] == pytest.approx({"p50": 15e3, "p95": 15e3, "p99": 15e3})
    first, last = timed["budgeted_ms"][0], timed["budgeted_ms"][-1]
    assert (first["val_shares"][0], last["val_shares"][0]) == (1.0, 0.8)
    assert last["ms"] == pytest.approx(TIMES.expected_ms(10, [0.5, 0.5]))
    assert "budget_mmac" not in last


def test_percentiles_of_the_exits_are_those_of_the_rounds():
    rounds = np.random.default_rng(0).random((1, 200, 3))
    found = StageTimes([4], rounds).batch_percentiles_ms(4)
    for k in range(3):
        until = np.sort(rounds[0, :, : k + 1].sum(axis=1))
        assert found[k]["p50"] == pytest.approx(1000 * np.median(until))
        assert 1000 * until[196] <= found[k]["p99"] <= 1000 * until[198]


def test_percentiles_of_a_policy_are_those_of_its_mixture():
    """Of one image: 90 % take 1 s, 6 % 3 s, 4 % 6 s."""
    times = StageTimes([1], np.array([[[1.0, 2.0, 3.0]]]))
    found = times.policy_percentiles_ms(1, [0.9, 0.06, 0.04])
    assert found == pytest.approx({"p50": 1000, "p95": 3000, "p99": 6000})


def test_percentiles_of_a_policy_know_the_luck_of_a_batch():
    """Ten images of which each goes on with probability 1/2: a binomial number at the second."""
    found = TIMES.policy_percentiles_ms(10, [0.5, 0.5])
    assert found["p50"] == pytest.approx(1000 * (4 + 6))
    assert found["p95"] == pytest.approx(1000 * (4 + 9))  # 8 of ten: 95 % have at most 8
    slow = StageTimes([1, 10], np.concatenate([TIMES.rounds, 2 * TIMES.rounds], axis=1))
    assert slow.policy_percentiles_ms(10, [1, 0]) == pytest.approx(
        {"p50": 6000, "p95": 8000, "p99": 8000}, rel=0.4
    )


def test_percentiles_are_in_milliseconds():
    assert percentiles_ms(np.array([0.5])) == {"p50": 500, "p95": 500, "p99": 500}


def test_measured_stages():
    assert sizes_up_to(1) == [1]
    assert sizes_up_to(6) == [1, 2, 4, 6]
    stages = TorchStages(build("msdnet-digits").eval())
    times = measure_stages(stages, 16, [1, 4], rounds=2, seconds=0)
    assert times.rounds.shape == (2, 2, 3)
    assert (times.rounds > 0).all()
    latencies = times.ms_per_image(4)
    assert latencies == sorted(latencies)
