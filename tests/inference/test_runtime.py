"""The runtime gives what the full network gives with thresholds applied afterwards."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from hdkd_dist.inference.policy import thresholds_of_exit
from hdkd_dist.inference.runtime import AnytimePredictor, EarlyExitRunner, top_probability
from hdkd_dist.inference.scoring import exits_taken
from hdkd_dist.inference.torch_stages import TorchStages
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


@pytest.fixture
def stages(network):
    return TorchStages(network)


def images(size):
    return np.random.default_rng(1).standard_normal((size, 3, 16, 16))


@torch.no_grad()
def reference(network, batch):
    """Confidence and guess of every exit, [K, B], by torch's own softmax."""
    logits = network(torch.from_numpy(batch)).float()
    temperatures = torch.tensor(TEMPERATURES)[:, None, None]
    confidence, guesses = (logits / temperatures).softmax(dim=-1).max(dim=-1)
    return confidence, guesses


def test_confidence_is_the_largest_of_the_softmax():
    logits = 30 * torch.randn(4, 50, 7, generator=torch.Generator().manual_seed(0))
    for temperature in (0.3, 1.0, 20.0):
        confidence, guess = top_probability(logits.numpy(), temperature)
        expected, index = (logits.double() / temperature).softmax(dim=-1).max(dim=-1)
        assert confidence.dtype == np.float32
        np.testing.assert_allclose(confidence, expected, rtol=1e-5)
        assert np.array_equal(guess, index)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused(value):
    logits = np.zeros((3, 5), np.float32)
    logits[1, 2] = value
    with pytest.raises(ValueError, match="outputs are not finite"):
        top_probability(logits)


def some_thresholds(network, batch, share):
    """With which about this share of those who are left leaves at each exit."""
    confidence, _ = reference(network, batch)
    return [float(c.quantile(1 - share)) for c in confidence]


@pytest.mark.parametrize("size", [1, 2, 33])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_equals_full_forward_with_thresholds(network, stages, size, share):
    batch, given = images(size), images(size)
    thresholds = some_thresholds(network, images(64), share)
    confidence, guesses = reference(network, batch)
    taken = exits_taken(confidence, torch.tensor(thresholds))
    answers = EarlyExitRunner(stages, thresholds, TEMPERATURES)(batch)
    assert np.array_equal(batch, given)
    assert np.array_equal(answers.exit, taken + 1)
    assert np.array_equal(answers.prediction, guesses.gather(0, taken[None])[0])
    np.testing.assert_allclose(answers.confidence, confidence.gather(0, taken[None])[0], rtol=1e-5)


@pytest.mark.parametrize("k", [0, 1, 2])
def test_all_leave_at_one_exit_and_later_stages_do_not_run(network, stages, k):
    """At 0 all leave at once; at 2 none leaves early."""
    ran = []
    hooks = [
        stage.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, stage in enumerate(network.stages)
    ]
    answers = EarlyExitRunner(stages, thresholds_of_exit(k, 3), TEMPERATURES)(images(5))
    for hook in hooks:
        hook.remove()
    assert answers.exit.tolist() == [k + 1] * 5
    assert np.array_equal(answers.prediction, reference(network, images(5))[1][k])
    assert ran == list(range(k + 1))


def test_stages_see_only_who_is_left(network, stages):
    batch = images(40)
    thresholds = some_thresholds(network, batch, 0.5)
    sizes = []
    hooks = [
        stage.register_forward_hook(lambda _, state, __: sizes.append(len(state[0][0])))
        for stage in network.stages
    ]
    answers = EarlyExitRunner(stages, thresholds, TEMPERATURES)(batch)
    for hook in hooks:
        hook.remove()
    assert sizes == [40, int((answers.exit > 1).sum()), int((answers.exit > 2).sum())]
    assert sizes[1] < 40


def test_who_is_left_stays_channels_last(network, stages):
    """A stage on maps in another order of memory is a fifth slower."""
    batch = images(40)
    seen = []
    hooks = [
        stage.register_forward_hook(lambda _, state, __: seen.extend(state[0]))
        for stage in list(network.stages)[1:]
    ]
    EarlyExitRunner(stages, some_thresholds(network, batch, 0.5), TEMPERATURES)(batch)
    for hook in hooks:
        hook.remove()
    assert seen
    assert all(maps.is_contiguous(memory_format=torch.channels_last) for maps in seen)


def test_no_images(stages):
    assert EarlyExitRunner(stages, [0.5] * 3)(images(0)).prediction.shape == (0,)


def test_wrong_number_of_thresholds(stages):
    with pytest.raises(ValueError, match="3 exits needs 3 thresholds, not 2"):
        EarlyExitRunner(stages, [0.5, 0.0])


def test_anytime_answers_can_be_taken_one_by_one(network, stages):
    confidence, guesses = reference(network, images(6))
    answers = AnytimePredictor(stages, TEMPERATURES).answers(images(6))
    first = next(answers)
    assert np.array_equal(first.prediction, guesses[0])
    rest = list(answers)
    assert [int(a.exit[0]) for a in (first, *rest)] == [1, 2, 3]
    np.testing.assert_allclose(rest[-1].confidence, confidence[2], rtol=1e-5)


def test_deadlines(stages):
    predictor = AnytimePredictor(stages)
    times = AnytimePredictor(stages, np.ones(3), np.array([0, 0, 1000.0]))  # as of_batch gives
    assert int(times.predict(images(2), deadline_s=60).exit[0]) == 2
    assert int(predictor.predict(images(2)).exit[0]) == 3
    assert int(predictor.predict(images(2), deadline_s=60).exit[0]) == 3
    assert int(predictor.predict(images(2), deadline_s=0).exit[0]) == 1
    slow_last = AnytimePredictor(stages, stage_seconds=[0, 0, 1000])
    assert int(slow_last.predict(images(2), deadline_s=60).exit[0]) == 2


def test_a_deadline_between_two_exits(network, stages):
    """The second stage takes long: its answer comes, the third's does not begin."""

    def wait(*_):
        time.sleep(1)

    hook = network.stages[1].register_forward_hook(wait)
    try:
        assert int(AnytimePredictor(stages).predict(images(2), deadline_s=0.9).exit[0]) == 2
    finally:
        hook.remove()
