"""Captured passes under DeepSpeed's engine: its hooks, its autocast, its mean over ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ranks_harness import on_ranks
from small_network import flattened
from tape import capture_on_tape
from test_engine import algorithm_for, micro_batches, started

from hdkd_dist.config.settings import Settings
from hdkd_dist.method.graphs import Graphs
from hdkd_dist.models import build
from hdkd_dist.training.gamma import captures

STEPS = 8


def train(overrides, captured):
    """Parameters, γ and running statistics after some steps, and which passes are captured."""
    engine, share, config = started(overrides)
    graphs = Graphs(capture_on_tape) if captured else None
    algorithm = replace(algorithm_for(engine, config), graphs=graphs)
    for step in range(STEPS):
        batch = micro_batches(share, step, 0)
        if step % 3 == 1:
            algorithm.train_step(batch)
        else:
            algorithm.step(batch, micro_batches(share, step, 1), engine.get_lr()[0])
    parameters = flattened(engine.module).detach()
    statistics = torch.cat([b.flatten() for b in engine.module.buffers()])
    taken = [] if graphs is None else sorted(name for name, _ in graphs.passes)
    assert graphs is None or all(each.captured for each in graphs.passes.values())
    return parameters, algorithm.weights.gamma, statistics, taken


def train_all(cases):
    return [[train(overrides, captured) for captured in (False, True)] for overrides in cases]


def test_graphs_change_nothing_under_any_stage():
    half = {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
    cases = [{"zero_optimization": {"stage": stage}, **half} for stage in (0, 1, 2)]
    cases.append({"gradient_accumulation_steps": 2})
    for of_rank in on_ranks(2, train_all, cases):
        for plain, repeated in of_rank:
            assert all(map(torch.equal, plain[:3], repeated[:3]))
            assert set(repeated[3]) == {"derivative", "training", "validation"}


@pytest.mark.parametrize(
    ("changes", "device", "expected"),
    [
        ({}, "cuda", True),
        ({}, "cpu", False),
        ({"run": {"cuda_graphs": False}}, "cuda", False),
        ({"model": {"preset": "msdnet-digits", "compile": True}}, "cuda", False),
        ({"model": {"factory": "some.module:network"}}, "cuda", False),
        (
            {"model": {"factory": "some.module:network"}, "run": {"cuda_graphs": True}},
            "cuda",
            True,
        ),
    ],
)
def test_which_networks_are_captured(changes, device, expected):
    settings = Settings.model_validate(
        {
            "model": {"preset": "msdnet-digits"},
            "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 8},
            **changes,
        }
    )
    network = build("msdnet-digits", 5)
    assert captures(settings, network, torch.device(device)) is expected
    torch.nn.utils.parametrizations.spectral_norm(network.classifiers[0].linear)
    assert not captures(settings, network, torch.device(device))  # it reads buffers


def test_graphs_and_compiler_exclude_each_other():
    with pytest.raises(ValueError, match="exclude each other: choose one"):
        Settings.model_validate(
            {
                "model": {"preset": "msdnet-digits", "compile": True},
                "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 8},
                "run": {"cuda_graphs": True},
            }
        )
