"""The γ and θ steps through DeepSpeed's engine: ZeRO stages, ranks, accumulation, autocast."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ranks_harness import on_ranks
from small_network import flattened

from hdkd_dist.config.load import load_config
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.distributed import ranks
from hdkd_dist.models import build

CONFIG = {
    "train_batch_size": 32,
    "optimizer": {"type": "SGD", "params": {"momentum": 0.9, "weight_decay": 1e-4}},
    "hdkd": {
        "model": {"preset": "msdnet-digits"},
        "schedule": {"epochs": 3, "base_lr": 0.1, "base_batch": 32, "milestones": [2]},
        "gamma": {"optimizer": "sgd", "lr": 1.0, "every": 1},  # Adam would magnify rounding
    },
}
CPU = torch.device("cpu")


def global_batch(step, kind):
    generator = torch.Generator().manual_seed(100 * step + kind)
    images = torch.randint(256, (32, 3, 16, 16), generator=generator).byte()
    return images, torch.randint(5, (32,), generator=generator)


def micro_batches(share, step, kind):
    """This rank's slices of the global batch, as the streams cut it."""
    size = share.micro_batch
    places = [(a * share.world_size + share.rank) * size for a in range(share.accumulation)]
    images, labels = global_batch(step, kind)
    return [(images[p : p + size], labels[p : p + size]) for p in places]


def started(overrides):
    """The engine of a small configuration, this rank's share and the resolved configuration."""
    import deepspeed

    from hdkd_dist.training.engine import build_engine

    deepspeed.utils.logger.setLevel(logging.ERROR)
    deepspeed.init_distributed("gloo", verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.json")
        file.write_text(json.dumps(CONFIG))
        config = load_config(file, overrides, ranks.world_size())
    torch.manual_seed(0)
    network = build(config.hdkd.model.preset, 5, **config.hdkd.model.overrides).train()
    share = replace(config.share, rank=ranks.rank())
    return build_engine(network, config, steps_per_epoch=1), share, config


def algorithm_for(engine, config):
    """Algorithm 1 with a fresh γ on the engine's network."""
    from hdkd_dist.training.gamma import build_algorithm, configured_weights

    weights = configured_weights(config.hdkd, engine.module.num_exits, 3, CPU)
    normalize = Normalize.of([0.5] * 3, [0.25] * 3, CPU)
    return build_algorithm(engine, weights, normalize, config.hdkd, config.deepspeed)


def train(overrides, steps=3):
    """Three steps through the real engine; parameters, buffers and γ at the end."""
    from hdkd_dist.training.engine import averaged_buffers
    from hdkd_dist.training.gamma import replicate

    engine, share, config = started(overrides)
    network, algorithm = engine.module, algorithm_for(engine, config)
    weights = algorithm.weights
    start = flattened(network).detach().clone()
    rates, gradients, drift = [], [], 0.0
    for step in range(steps):
        rates.append(engine.get_lr()[0])
        batch = micro_batches(share, step, 0)
        metaval_batch = micro_batches(share, step, 1)
        _, gradient = algorithm.step(batch, metaval_batch, rates[-1])
        gradients.append(gradient)
        drift = max(drift, float(replicate(weights)))
    parameters = flattened(network).detach()
    buffers = averaged_buffers(network)
    statistics = torch.cat([b.flatten() for b in buffers.values() if b.is_floating_point()])
    own = torch.cat([b.flatten() for b in network.buffers() if b.is_floating_point()])
    return {
        "parameters": parameters,
        "gamma": weights.gamma,
        "statistics": statistics,
        "own_statistics": own,
        "rates": rates,
        "drift": drift,
        "initial": weights.initial,
        "start": start,
        "first_gradient": gradients[0],
        "clipping": engine.gradient_clipping(),
        "bucket": engine.zero_reduce_bucket_size(),
    }


@pytest.fixture(scope="module", params=["lookahead", "online"])
def kind(request):
    return {"hdkd.gamma.lookahead": request.param}


@pytest.fixture(scope="module")
def one_process(kind):
    """One rank that forwards the shards of 2 ranks × 2 steps one after another."""
    return on_ranks(1, train, {**kind, "gradient_accumulation_steps": 4})[0]


def difference(found, expected):
    return float((found - expected).norm() / expected.norm())


def test_every_stage_on_two_ranks_equals_one_process(kind, one_process):
    accumulated = {**kind, "gradient_accumulation_steps": 2}
    stages = [{**accumulated, "zero_optimization": {"stage": stage}} for stage in (0, 1, 2)]
    for first, second in zip(*on_ranks(2, train_each, stages, 3), strict=True):
        assert torch.equal(first["gamma"], second["gamma"])
        assert first["drift"] == 0
        assert torch.equal(first["parameters"], second["parameters"])
        assert difference(first["parameters"], one_process["parameters"]) < 1e-6
        # In float32 a ReLU near its kink falls on another side when sums are rounded in another
        # order, which moves v by up to some 1e-3; test_hypergradient.py holds 1e-9 in float64.
        moves = [result["gamma"] - result["initial"] for result in (first, one_process)]
        assert difference(*moves) < 1e-2
        assert moves[0].abs().max() > 0.01


def test_running_statistics_are_averaged_into_a_copy():
    first, second = on_ranks(2, train, {})
    assert torch.equal(first["statistics"], second["statistics"])
    assert not torch.equal(first["own_statistics"], second["own_statistics"])
    mean = (first["own_statistics"] + second["own_statistics"]) / 2
    torch.testing.assert_close(first["statistics"], mean)


def test_gradients_are_not_clipped_unasked(one_process):
    assert one_process["clipping"] == 0


def test_learning_rate_follows_the_schedule(one_process):
    assert one_process["rates"] == pytest.approx([0.1, 0.1, 0.01])


def test_bf16_autocast_trains_and_keeps_gamma_in_float32(kind, one_process):
    autocast = {**kind, "torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
    (result,) = on_ranks(1, train, {**autocast, "gradient_accumulation_steps": 4})
    assert result["gamma"].dtype == torch.float32
    assert result["parameters"].dtype == torch.float32
    moves = [run["parameters"] - run["start"] for run in (result, one_process)]
    assert 1e-4 < difference(*moves) < 0.3  # bf16 was used, and it trains the same network


@pytest.mark.parametrize("kind", ["lookahead", "online"])
def test_gamma_step_runs_in_bf16_unless_told_otherwise(kind):
    """That moves the hypergradient by what bf16 rounds away, and not by more."""
    single = {"hdkd.gamma.lookahead": kind}
    half = {**single, "torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
    overrides = [half, {**half, "hdkd.gamma.autocast": False}, single]
    rounded, exact, alone = (run["first_gradient"] for run in on_ranks(1, train_each, overrides)[0])
    if kind == "lookahead":  # no step in bf16 comes before it
        assert difference(exact, alone) < 1e-5
    assert 1e-5 < difference(rounded, exact) < 0.2


@pytest.mark.parametrize("accumulation", [1, 2])
def test_deepspeed_does_not_wait_for_the_device(kind, accumulation):
    overrides = {**kind, "gradient_accumulation_steps": accumulation}
    assert on_ranks(1, count_waits, overrides) == [0]


def count_waits(overrides):
    """How often DeepSpeed lets the host wait for the device in two steps."""
    from deepspeed.accelerator import get_accelerator

    waits = []
    get_accelerator().synchronize = lambda *_: waits.append(1)
    train(overrides, steps=2)
    return len(waits)


@pytest.mark.parametrize("clipping", [{}, {"gradient_clipping": 1.0}], ids=["", "clipped"])
@pytest.mark.parametrize("stage", [0, 1, 2])
def test_gradient_that_is_not_finite_is_never_passed_over(stage, clipping):
    overrides = {"hdkd.method": "dbt", "zero_optimization": {"stage": stage}, **clipping}
    left_out = stage > 0 and clipping  # ZeRO looks at the norm before it clips
    assert on_ranks(2, meet_infinity, overrides) == 2 * ["left out" if left_out else "seen"]


def meet_infinity(overrides):
    """What becomes on this rank of a gradient that is inf on one, with losses that are finite."""
    from hdkd_dist.training.measure import Diverged, Meter, note_gradients

    engine, share, config = started(overrides)
    algorithm = algorithm_for(engine, config)
    meter = Meter(engine.module.num_exits, CPU)
    sharded = config.deepspeed["zero_optimization"]["stage"] > 0
    note_gradients(engine.lr_scheduler.optimizer, meter, ranks.world_size() if sharded else 1)
    if ranks.rank() == 1:
        next(engine.module.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    seen = algorithm.train_step(micro_batches(share, 0, 0))
    meter.add(1, seen, algorithm.weights.gamma, 16)
    try:
        meter.read()
    except Diverged as error:
        return "seen" if str(error).startswith("the gradient of θ is not finite") else str(error)
    return "left out" if engine.skipped_steps else "passed over"  # left out: the trainer stops


def test_zero_sends_gradients_unrounded_in_one_bucket_no_larger_than_the_network():
    half = {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
    stage_2 = {**half, "zero_optimization": {"stage": 2}}
    deepspeeds = {**half["torch_autocast"], "lower_precision_safe_modules": ["torch.nn.Conv2d"]}
    overrides = [half, stage_2, {**stage_2, "torch_autocast": deepspeeds}]
    runs = on_ranks(2, train_each, overrides)[0]
    stage_0, sent, rounded = (run["parameters"] - run["start"] for run in runs)
    assert difference(sent, stage_0) < 1e-5
    assert difference(rounded, stage_0) > 1e-4
    assert runs[1]["bucket"] == len(runs[1]["parameters"])


def train_each(overrides, steps=1):
    return [train(choice, steps) for choice in overrides]


def copies_per_step():
    """Copies that a plain step on one rank starts, and how many parameters it moves."""
    from operations import counted

    engine, share, config = started({"hdkd.method": "dbt"})
    algorithm, batch = algorithm_for(engine, config), micro_batches(share, 0, 0)
    return counted(lambda: algorithm.train_step(batch))["copy_"], len(algorithm.theta)


def test_single_rank_does_not_copy_its_gradients_to_and_fro():
    ((copies, parameters),) = on_ranks(1, copies_per_step)
    assert copies < parameters / 2


def patience():
    """Seconds that each group of ranks waits, and the watchdog."""
    import deepspeed

    _, _, config = started({"hdkd.run.hang_timeout_s": 50.0})
    group = deepspeed.utils.groups._clone_world_group()
    waits = group._get_backend(CPU).options._timeout
    return waits.total_seconds(), config.hdkd.run.hang_timeout_s


def test_gradients_wait_longer_for_a_rank_than_the_watchdog():
    ((waits, watchdog),) = on_ranks(1, patience)
    assert waits == 50 + 1800 > watchdog == 50  # a rank may compile its loader for half an hour


def test_weights_with_channels_last_give_the_same_network():
    from hdkd_dist.training.engine import channels_last_weights

    torch.manual_seed(0)
    network = build("msdnet-digits", 5)
    images = torch.randn(4, 3, 16, 16)
    before, state = network(images), {k: v.clone() for k, v in network.state_dict().items()}
    channels_last_weights(network)
    torch.testing.assert_close(network(images), before, rtol=1e-4, atol=1e-5)
    network.load_state_dict(state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    weights = [m.weight for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
