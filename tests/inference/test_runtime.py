"""The runtime gives what the full network gives with thresholds applied afterwards."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from hdkd_dist.evaluation.measures import latency_results
from hdkd_dist.inference.latency import StageTimes, in_time, measure_stages, sizes_up_to
from hdkd_dist.inference.policy import exits_taken
from hdkd_dist.inference.predictor import AnytimePredictor
from hdkd_dist.inference.runtime import EarlyExitRunner, thresholds_of_exit
from hdkd_dist.models import build

TEMPERATURES = [0.5, 1.0, 2.0]


@pytest.fixture(scope="module", params=["msdnet-digits", "resnet-digits"])
def network(request):
    torch.manual_seed(0)
    network = build(request.param).double()
    network.train()
    with torch.no_grad():
        network(torch.randn(64, 3, 16, 16, dtype=torch.float64))  # running statistics
    return network.eval()


def images(size):
    return torch.randn(size, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()


@torch.no_grad()
def reference(network, batch):
    logits = network(batch).float()
    temperatures = torch.tensor(TEMPERATURES)[:, None, None]
    return (logits / temperatures).softmax(dim=-1).max(dim=-1)


def some_thresholds(network, batch, share):
    """With which about this share of those who are left leaves at each exit."""
    confidence, _ = reference(network, batch)
    return [float(c.quantile(1 - share)) for c in confidence]


@pytest.mark.parametrize("size", [1, 2, 33])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_equals_full_forward_with_thresholds(network, size, share):
    batch, given = images(size), images(size)
    thresholds = some_thresholds(network, images(64), share)
    confidence, guesses = reference(network, batch)
    taken = exits_taken(confidence, torch.tensor(thresholds))
    answers = EarlyExitRunner(network, thresholds, TEMPERATURES)(batch)
    assert torch.equal(batch, given)
    assert torch.equal(answers.exit, taken)
    assert torch.equal(answers.prediction, guesses.gather(0, taken[None])[0])
    torch.testing.assert_close(answers.confidence, confidence.gather(0, taken[None])[0])


@pytest.mark.parametrize("k", [0, 1, 2])
def test_all_leave_at_one_exit_and_later_stages_do_not_run(network, k):
    """At 0 all leave at once; at 2 none leaves early."""
    ran = []
    hooks = [
        stage.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, stage in enumerate(network.stages)
    ]
    answers = EarlyExitRunner(network, thresholds_of_exit(k, 3), TEMPERATURES)(images(5))
    for hook in hooks:
        hook.remove()
    assert answers.exit.tolist() == [k] * 5
    assert torch.equal(answers.prediction, reference(network, images(5))[1][k])
    assert ran == list(range(k + 1))


def test_stages_see_only_who_is_left(network):
    batch = images(40)
    thresholds = some_thresholds(network, batch, 0.5)
    sizes = []
    hooks = [
        stage.register_forward_hook(lambda _, state, __: sizes.append(len(state[0][0])))
        for stage in network.stages
    ]
    answers = EarlyExitRunner(network, thresholds, TEMPERATURES)(batch)
    for hook in hooks:
        hook.remove()
    assert sizes == [40, int((answers.exit > 0).sum()), int((answers.exit > 1).sum())]
    assert sizes[1] < 40


def test_who_is_left_stays_channels_last(network):
    """A stage on maps in another order of memory is a fifth slower."""
    batch = images(40)
    seen = []
    hooks = [
        stage.register_forward_hook(lambda _, state, __: seen.extend(state[0]))
        for stage in list(network.stages)[1:]
    ]
    EarlyExitRunner(network, some_thresholds(network, batch, 0.5), TEMPERATURES)(batch)
    for hook in hooks:
        hook.remove()
    assert seen
    assert all(maps.is_contiguous(memory_format=torch.channels_last) for maps in seen)


def test_no_images(network):
    assert EarlyExitRunner(network, [0.5] * 3)(images(0)).prediction.shape == (0,)


def test_wrong_number_of_thresholds(network):
    with pytest.raises(ValueError, match="3 exits needs 3 thresholds, not 2"):
        EarlyExitRunner(network, [0.5, 0.0])


def test_anytime_answers_can_be_taken_one_by_one(network):
    confidence, guesses = reference(network, images(6))
    answers = AnytimePredictor(network, TEMPERATURES).answers(images(6))
    first = next(answers)
    assert torch.equal(first.prediction, guesses[0])
    rest = list(answers)
    assert [int(a.exit[0]) for a in (first, *rest)] == [0, 1, 2]
    torch.testing.assert_close(rest[-1].confidence, confidence[2])


def test_deadlines(network):
    predictor = AnytimePredictor(network)
    times = AnytimePredictor(network, np.ones(3), np.array([0, 0, 1000.0]))  # as of_batch gives
    assert int(times.predict(images(2), deadline_s=60).exit[0]) == 1
    assert int(predictor.predict(images(2)).exit[0]) == 2
    assert int(predictor.predict(images(2), deadline_s=60).exit[0]) == 2
    assert int(predictor.predict(images(2), deadline_s=0).exit[0]) == 0
    slow_last = AnytimePredictor(network, stage_seconds=[0, 0, 1000])
    assert int(slow_last.predict(images(2), deadline_s=60).exit[0]) == 1


def test_a_deadline_between_two_exits(network):
    """The second stage takes long: its answer comes, the third's does not begin."""

    def wait(*_):
        time.sleep(0.3)

    hook = network.stages[1].register_forward_hook(wait)
    try:
        assert int(AnytimePredictor(network).predict(images(2), deadline_s=0.25).exit[0]) == 1
    finally:
        hook.remove()


def test_expected_time_of_a_policy():
    times = StageTimes([1, 10], torch.tensor([[1.0, 2.0], [4.0, 11.0]]).numpy())
    assert times.ms_per_image(10) == pytest.approx([400, 1500])
    assert times.expected_ms(10, [1, 0]) == pytest.approx(400)
    assert times.expected_ms(10, [0, 1]) == pytest.approx(1500)
    # half of ten: between 1 (2 s) and 10 (11 s), 6 s
    assert times.expected_ms(10, [0.5, 0.5]) == pytest.approx(100 * (4 + 6))
    assert times.expected_ms(1, [0.5, 0.5]) == pytest.approx(1000 * (1 + 0.5 * 2))


def test_policies_in_time_are_judged_by_the_smaller_batches_of_later_stages():
    times = StageTimes([1, 10], torch.tensor([[1.0, 2.0], [4.0, 11.0]]).numpy())
    rows = [{"val_shares": [first, 1 - first], "shares": [0.5, 0.5]} for first in (1.0, 0.8, 0.0)]
    expected = [1000 * seconds / 10 for seconds in (4, 4 + 3, 4 + 11)]  # 2 of 10: 2 + 9/9
    for count, budget in enumerate(expected, start=1):
        assert in_time(rows, times, 10, budget + 1e-6) == rows[:count]
    assert in_time(rows, times, 10, expected[0] - 1) == []
    timed = latency_results([{**row, "budget_mmac": 1} for row in rows], times, "cpu")
    assert timed["latency"]["ms_per_image"] == pytest.approx([400, 1500])
    first, last = timed["budgeted_ms"][0], timed["budgeted_ms"][-1]
    assert (first["val_shares"][0], last["val_shares"][0]) == (1.0, 0.8)
    assert last["ms"] == pytest.approx(times.expected_ms(10, [0.5, 0.5]))
    assert "budget_mmac" not in last


def test_measured_stages(network):
    assert sizes_up_to(1) == [1]
    assert sizes_up_to(6) == [1, 2, 4, 6]
    times = measure_stages(network.float(), 16, [1, 4], rounds=2, seconds=0)
    network.double()
    assert times.seconds.shape == (2, 3)
    assert (times.seconds > 0).all()
    latencies = times.ms_per_image(4)
    assert latencies == sorted(latencies)
