"""The model of what a step sends and how long it takes: against a real run, and by hand."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from collectives import Call
from communication_model import (
    Machine,
    NetworkCost,
    call_seconds,
    network_cost,
    project,
    step_calls,
)
from ranks_harness import on_ranks
from scaling_rank import CLASSES, MODES, ScalingRank, configuration

from hdkd_dist.config.settings import GammaSettings

PRESET, SIZE = "msdnet-digits", 4
MORE_MODES = {
    **MODES,
    "lookahead": {"hdkd.gamma.lookahead": "lookahead"},
    "local": {"hdkd.gamma.scope": "local"},
}
SHORT_MODES = {name: {**mode, "hdkd.run.log_every": 4} for name, mode in MORE_MODES.items()}
SMALL = NetworkCost(mmac=1000, parameters=10, exits=3, operations=1)


def counted():
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.ERROR)
    deepspeed.init_distributed("gloo", verbose=False)
    rank = ScalingRank(PRESET, SIZE, SHORT_MODES)
    return {mode: rank.count(mode) for mode in SHORT_MODES}


def test_model_has_every_collective_of_a_real_run_and_no_other():
    cost = network_cost(PRESET, CLASSES)
    for calls in on_ranks(2, counted):
        for name, mode in SHORT_MODES.items():
            settings = configuration(PRESET, SIZE, mode).hdkd
            gamma = None if name == "plain" else settings.gamma
            expected = step_calls(cost.parameters, cost.exits, gamma, settings.run.log_every)
            assert calls[name] == expected, name


def seconds(elements, gpus):
    return call_seconds(Call("all_reduce", torch.float32, elements, True), gpus, Machine())


def test_times_of_a_sum_are_those_found_by_hand():
    # 16 MB in a node, on the ring: 14 hops of 3.4 µs, 7/4 of the bytes at 200 GB/s
    assert seconds(4_000_000, 8) == pytest.approx(8.4e-6 + 14 * 3.4e-6 + 140e-6)
    # one number on two nodes, on the tree: up and down 7 hops in a node and one between
    assert seconds(1, 16) == pytest.approx(8.4e-6 + 2 * (7 * 3.4e-6 + 14e-6), rel=1e-4)
    assert seconds(1, 1) == 0


def test_compute_time_follows_multiply_adds_and_passes():
    machine = Machine(micro_batch=64, utilisation=0.1, launch_us=6)
    plain = project(SMALL, None, 8, 512, machine)
    assert plain.compute_s == pytest.approx(3 * 64 * 2e9 / 31.2e12)
    every_2 = project(SMALL, GammaSettings(), 8, 512, machine)
    assert every_2.compute_s - plain.compute_s == pytest.approx((3 + 2) / 2 * 64 * 2e9 / 31.2e12)
    in_two = project(SMALL, GammaSettings(), 4, 512, machine)
    more = in_two.compute_s - 2 * plain.compute_s  # CE_k comes first, and nothing is recorded
    assert more == pytest.approx((1 + 3 + 3) / 2 * 2 * 64 * 2e9 / 31.2e12)


def test_efficiency_is_whole_where_communication_is_free_and_batches_are_full():
    free = Machine(
        micro_batch=64,
        node_gb=math.inf,
        network_gb=math.inf,
        node_us=0,
        network_us=0,
        collective_us=0,
        host_us=0,
    )
    for gamma in (None, GammaSettings()):
        assert project(SMALL, gamma, 128, 128 * 64, free).efficiency == pytest.approx(1)
        assert project(SMALL, gamma, 128, 128 * 16, Machine(micro_batch=64)).efficiency < 1


def test_votes_bound_a_step_from_below():
    crowd = project(SMALL, None, 1024, 1024, Machine())
    assert crowd.step_s == pytest.approx(2 * 1023 * 30e-6)
    assert crowd.share > 0.9
