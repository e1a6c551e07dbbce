"""Measurements between two records."""

from __future__ import annotations

import time

import pytest
import torch
from ranks_harness import on_ranks

from hdkd_dist.method.algorithm import Seen
from hdkd_dist.training.measure import Meter, Pace, squared_norm

CPU = torch.device("cpu")
K, N = 2, 3  # exits, losses


def seen(losses, correct):
    return Seen(torch.tensor(losses), torch.tensor(correct))


def means_of_two_steps():
    """What is read after two steps on this rank, rank r having losses r higher."""
    from hdkd_dist.distributed import ranks

    meter, r = Meter(K, CPU), float(ranks.rank())
    meter.add(1, seen([1.0 + r, 2.0, 3.0], [1.0, 4.0]), torch.ones(N), images=4)
    meter.add(2, seen([3.0 + r, 2.0, 3.0], [1.0, 2.0]), torch.ones(N), images=4)
    meter.add_gradient(torch.tensor(9.0))
    meter.add_gradient(torch.tensor(16.0))
    summary = meter.read()
    meter.add(3, seen([1.0, float("nan") if r else 1.0, 1.0], [0.0, 0.0]), torch.ones(N), 4)
    try:
        meter.read()
    except ValueError as error:
        return summary, str(error)
    return summary, ""


def test_a_reading_is_the_mean_over_steps_and_ranks_and_names_what_is_not_finite():
    for summary, said in on_ranks(2, means_of_two_steps):
        assert summary.losses == pytest.approx([2.5, 2.0, 3.0])
        assert summary.top1 == pytest.approx([25.0, 75.0])
        assert summary.gradient_norm == pytest.approx(12.5**0.5)
        assert summary.hypergradient_norm is None
        assert said.startswith("loss ce_2 is not finite at step 3 on rank 1: lower")


def test_states_of_some_ranks_are_taken_over_by_others():
    meters = [Meter(K, CPU) for _ in range(2)]
    for place, meter in enumerate(meters):
        meter.add(1, seen([1.0 + place] * N, [2.0, 2.0]), torch.ones(N), images=4)
    merged = Meter.merged([meter.state() for meter in meters], world_size=1)
    assert merged["losses"].tolist() == [1.5] * N  # the mean over ranks
    assert merged["correct"].tolist() == [4.0, 4.0]  # all images
    assert merged["images"] == 8
    assert merged["steps"] == 1


def test_time_between_batches_is_waiting_and_pauses_do_not_count():
    def slow():
        for batch in range(2):
            time.sleep(0.05)
            yield batch

    start = time.perf_counter()
    pace = Pace()
    pace.resume()
    for _ in pace.timed(slow()):
        pace.images += 10
    pace.pause()
    time.sleep(0.05)
    totals = pace.totals()
    assert 0.1 <= totals["seconds"] <= time.perf_counter() - start - 0.05
    assert totals["wait_fraction"] * totals["seconds"] >= 0.1
    assert totals["wait_fraction"] <= 1
    assert totals["images_per_s"] == pytest.approx(20 / totals["seconds"])
    assert pace.elapsed == totals["seconds"]


def test_the_norm_is_that_of_all_gradients_together():
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
    parameters[0].grad, parameters[1].grad = torch.tensor([1.0, 2.0, 2.0]), torch.full((2, 2), 2.0)
    optimizer = torch.optim.SGD([*parameters, torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert float(squared_norm(optimizer)) == pytest.approx(25)
