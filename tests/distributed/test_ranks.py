"""What ranks tell each other, on really spawned ranks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
from ranks_harness import on_ranks

from hdkd_dist.distributed import ranks
from hdkd_dist.method.algorithm import Seen
from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.objective import LossLayout
from hdkd_dist.method.state import LossWeights
from hdkd_dist.training.gamma import replicate
from hdkd_dist.training.measure import Meter

CPU = torch.device("cpu")
EXITS = 2


def failing(culprits):
    try:
        with ranks.agreement():
            if ranks.rank() in culprits:
                raise ValueError("the disk is full")
    except ranks.RankFault as fault:
        return str(fault)
    except SystemExit as stop:
        return stop.code
    return "went on"


def test_fault_of_one_rank_ends_all_and_is_said_once():
    assert on_ranks(3, failing, ()) == ["went on"] * 3
    assert on_ranks(3, failing, (1, 2)) == [2, "the disk is full", 2]


PLACE = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
LAUNCHED = {**PLACE, "MASTER_ADDR": "node", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, False),
        ({"MASTER_PORT": "29500", "MASTER_ADDR": "node"}, False),  # starts nothing
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        (LAUNCHED, True),
        ({**LAUNCHED, "SLURM_STEP_NUM_TASKS": "2"}, True),
    ],
)
def test_a_launcher_is_known_by_its_variables(environment, found):
    assert ranks.is_launched(environment) == found


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0"}, "has RANK and no value for LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_"),
        ({"WORLD_SIZE": "2"}, "has WORLD_SIZE and no value for RANK, .*; .* unset WORLD_SIZE"),
        ({**LAUNCHED, "RANK": ""}, "no value for RANK: a launcher sets"),
        ({**LAUNCHED, "MASTER_PORT": ""}, "no value for MASTER_PORT: a launcher sets"),
        (PLACE, "no value for MASTER_ADDR, MASTER_PORT"),
        ({**LAUNCHED, "RANK": "2"}, "are no ranks, .*: RANK=2, LOCAL_RANK=1, WORLD_SIZE=2"),
        ({**LAUNCHED, "LOCAL_RANK": "-1"}, "are no ranks"),
        ({**LAUNCHED, "WORLD_SIZE": "two"}, "are no ranks"),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "SLURM_STEP_NUM_TASKS is 8 but RANK is not set"),
        ({"PMI_SIZE": ""}, "PMI_SIZE is  but RANK is not set"),
    ],
)
def test_half_an_environment_is_refused(environment, message):
    with pytest.raises(ValueError, match=message):
        ranks.is_launched(environment)


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.0"])
def test_a_check_is_for_a_number_of_ranks(text):
    assert ranks.planned_world_size({}) == 1
    assert ranks.planned_world_size({"WORLD_SIZE": "8", "RANK": "0"}) == 8
    with pytest.raises(ValueError, match=r"WORLD_SIZE is .* but must be the number of ranks"):
        ranks.planned_world_size({"WORLD_SIZE": text})


def weights_of(gamma):
    meta = MetaObjective(average_ce=torch.ones(2))
    ones = torch.ones(3)
    return LossWeights(gamma, ones, ones, torch.tensor(3.0), meta=meta)


def reductions():
    mine = float(ranks.rank())
    means = ranks.mean_over_ranks([torch.tensor([mine, 1.0]), torch.full((2, 2), mine + 1)])
    total = ranks.sum_over_ranks(torch.tensor([mine]))
    return means, total, ranks.gather_from_ranks(torch.tensor([mine]))


def test_reductions():
    for means, total, gathered in on_ranks(3, reductions):
        assert means[0].tolist() == [1.0, 1.0]
        assert means[1].tolist() == [[2.0, 2.0], [2.0, 2.0]]
        assert total.tolist() == [3.0]
        assert gathered.tolist() == [[0.0], [1.0], [2.0]]


def agreement():
    value = torch.tensor([1 / 3, -1e-30, 7.0])
    equal, no_drift = ranks.agree(value)
    gamma = value.clone()
    if ranks.rank() == 2:
        gamma[0] = torch.nextafter(gamma[0], torch.tensor(9.0))
    drift = replicate(weights_of(gamma))
    return torch.equal(equal, value), float(no_drift), float(drift), gamma


def test_agreement_is_exact_and_a_drift_of_one_bit_is_seen():
    results = on_ranks(3, agreement)  # three: a mean of thirds would not be equal to the bit
    for equal, no_drift, drift, gamma in results:
        assert equal
        assert no_drift == 0
        assert 0 < drift < 1e-7
        assert torch.equal(gamma, results[0][3])


def nan_on_rank_1():
    """By the maximum of NCCL, which is C's ``fmax`` and passes over NaN."""

    def fmax(tensor, op):
        assert op == dist.ReduceOp.MAX
        parts = ranks.gather_from_ranks(tensor)
        tensor.copy_(torch.fmax(parts[0], parts[1]))

    own, dist.all_reduce = dist.all_reduce, fmax
    try:
        value = torch.tensor([1.0, math.nan if ranks.rank() == 1 else 2.0])
        return float(ranks.agree(value)[1]), float(ranks.agree(torch.ones(2))[1])
    finally:
        dist.all_reduce = own


def test_nan_on_one_rank_is_seen_where_the_maximum_passes_over_it():
    assert on_ranks(2, nan_on_rank_1) == [(math.inf, 0.0)] * 2


def measuring(bad_rank, kind):
    meter = Meter(EXITS, CPU)
    gamma = torch.ones(len(LossLayout(EXITS)))
    for step in range(1, 4):
        losses = torch.full_like(gamma, float(step + ranks.rank()))
        weights = gamma.clone()
        if ranks.rank() == bad_rank and step >= 2:
            watched = {"loss": losses, "gamma": weights}[kind]
            watched[2] = math.inf if step == 2 else math.nan
        correct = torch.tensor([1, 2])
        meter.add(step, Seen(losses, correct), weights, images=4)
        gradient = torch.tensor([3.0, 4.0, math.inf if kind == "gradient" and step == 3 else 0.0])
        meter.add_gamma_step(step, gradient, torch.tensor(0.0))
    try:
        return meter.read()
    except ValueError as error:
        return str(error)


def test_meter_averages_over_steps_and_ranks():
    for summary in on_ranks(2, measuring, None, "loss"):
        assert summary.losses == pytest.approx([2.5] * 3)
        assert summary.top1 == pytest.approx([25, 50])
        assert summary.hypergradient_norm == pytest.approx(5)


@pytest.mark.parametrize(
    ("kind", "named"), [("loss", "loss kd_2_to_1"), ("gamma", "weight γ of kd_2_to_1")]
)
def test_divergence_names_step_rank_and_entry(kind, named):
    for message in on_ranks(2, measuring, 1, kind):
        assert message.startswith(f"{named} is not finite at step 2 on rank 1:")


def test_infinite_hypergradient_is_named_although_gamma_is_cut_at_zero():
    (message,) = on_ranks(1, measuring, None, "gradient")
    assert message.startswith("hypergradient of kd_2_to_1 is not finite at step 3 on rank 0:")


def without_a_step_of_gamma():
    meter = Meter(EXITS, CPU)
    meter.add(1, Seen(torch.ones(3), torch.tensor([1, 2])), torch.ones(3), images=4)
    return meter.read().hypergradient_norm


def test_no_step_of_gamma_has_no_norm():
    assert on_ranks(1, without_a_step_of_gamma) == [None]


def drifting():
    meter = Meter(EXITS, CPU)
    losses = torch.ones(3)
    meter.add(1, Seen(losses, torch.tensor([1, 2])), losses, images=4)
    gamma = losses + 0.25 * ranks.rank()
    meter.add_gamma_step(1, losses, replicate(weights_of(gamma)))
    try:
        meter.read()
    except ValueError as error:
        return str(error)


def test_drift_stops_the_run():
    assert all("differ between ranks by 0.25" in message for message in on_ranks(2, drifting))
