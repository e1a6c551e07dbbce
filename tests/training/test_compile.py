"""The training step by torch.compile."""

from __future__ import annotations

from dataclasses import replace

import torch
from ranks_harness import on_ranks
from small_network import flattened
from test_engine import algorithm_for, difference, micro_batches, started

from hdkd_dist.method.weights import METHODS

TINY = {"hdkd.model.overrides": {"layers_per_block": [1, 1], "scale_factors": [1, 2]}}


def train_by_all_methods(overrides):
    """One network, trained by each method for a step; what there is after each."""
    engine, share, config = started({**TINY, **overrides})
    batch, metaval_batch = (micro_batches(share, 0, kind) for kind in (0, 1))
    seen = []
    for lookahead in ("online", "lookahead"):
        for name, method in METHODS.items():
            gamma = config.hdkd.gamma.model_copy(update={"lookahead": lookahead})
            settings = config.hdkd.model_copy(update={"method": name, "gamma": gamma})
            algorithm = algorithm_for(engine, replace(config, hdkd=settings))
            start = flattened(engine.module).clone()
            if method.learns:
                algorithm.step(batch, metaval_batch, engine.get_lr()[0])
            else:
                algorithm.train_step(batch)
            seen.append(
                {
                    "move": flattened(engine.module) - start,
                    "gamma": algorithm.weights.gamma,
                    "buffers": torch.cat([b.flatten() for b in engine.module.buffers()]),
                }
            )
    return seen, torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_compiled_network_trains_by_every_method_as_the_plain_one():
    ((plain, none),) = on_ranks(1, train_by_all_methods, {})
    ((fast, graphs),) = on_ranks(1, train_by_all_methods, {"hdkd.model.compile": True})
    assert none == 0
    assert graphs == 2  # with and without gradient equilibrium
    for compiled, expected in zip(fast, plain, strict=True):
        for name, value in expected.items():
            assert difference(compiled[name], value) < 1e-2  # fused sums move ReLUs at their kinks
