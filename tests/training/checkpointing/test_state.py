"""A run put back to a checkpoint goes on as if nothing had happened: DeepSpeed, real ranks."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ranks_harness import on_ranks
from small_network import small_msdnet
from test_engine import CONFIG, CPU, micro_batches
from torch import nn

from hdkd_dist.config.load import load_config
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.distributed import ranks


class Training:
    """What a run trains with, on batches that are functions of the step."""

    def __init__(self, overrides):
        import deepspeed

        from hdkd_dist.training.engine import build_engine
        from hdkd_dist.training.gamma import build_algorithm, configured_weights
        from hdkd_dist.training.measure import Meter, Progress, note_gradients
        from hdkd_dist.training.weight_average import WeightAverage

        deepspeed.utils.logger.setLevel(logging.ERROR)
        deepspeed.init_distributed("gloo", verbose=False)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "config.json")
            file.write_text(json.dumps(CONFIG))
            config = load_config(file, overrides, ranks.world_size())
        network = small_msdnet(seed=0)
        engine = build_engine(network, config, steps_per_epoch=2)
        weights = configured_weights(config.hdkd, network.num_exits, 8, CPU)
        self.run = SimpleNamespace(
            engine=engine,
            weights=weights,
            average=WeightAverage(network, 0.9),
            deepspeed=config.deepspeed,
            device=CPU,
            settings=config.hdkd,
            share=replace(config.share, rank=ranks.rank()),
            steps_per_epoch=2,
        )
        normalize = Normalize.of([0.5] * 3, [0.25] * 3, CPU)
        self.algorithm = build_algorithm(engine, weights, normalize, config.hdkd, config.deepspeed)
        self.progress = Progress(Meter(network.num_exits, CPU))
        self.shards = ranks.world_size() if engine.zero_optimization_stage() else 1
        self.note = lambda: note_gradients(
            engine.lr_scheduler.optimizer, self.progress.meter, self.shards
        )

    def go_on(self, steps, again=False):
        if not again:
            self.note()
        self.run.engine.module.train()
        for _ in range(steps):
            step = self.progress.step
            batches = (micro_batches(self.run.share, step, kind) for kind in (0, 1))
            rate = self.run.engine.get_lr()[0]
            seen, gradient = self.algorithm.lookahead_step(*batches, rate)
            self.progress.step += 1
            self.run.average.update(self.run.engine.module, self.progress.step)
            meter = self.progress.meter
            meter.add_gamma_step(step + 1, gradient, drift=gradient.norm() * 0)
            gamma, images = self.run.weights.gamma, 32 // ranks.world_size()
            meter.add(step + 1, seen, gamma, images)

    def result(self):
        network, weights = self.run.engine.module, self.run.weights
        floating = [b.flatten() for b in network.buffers() if b.is_floating_point()]
        return {
            "parameters": nn.utils.parameters_to_vector(network.parameters()).detach(),
            "buffers": torch.cat(floating),
            "averaged": flat(self.run.average.parameters),
            "averaged_buffers": flat(self.run.average.buffers),
            "gamma": weights.gamma,
            "average_ce": weights.meta.average_ce,
            "temperature": weights.temperature,
            "rate": torch.tensor(self.run.engine.get_lr()),
            "random": torch.rand(3),
            "summary": self.progress.meter.read(),
        }


def flat(tensors):
    return torch.cat([value.flatten() for value in tensors.values()])


def write(training, folder):
    from hdkd_dist.training.checkpointing.files import (
        Checkpoint,
        complete,
        partial_of,
        start_writing,
    )
    from hdkd_dist.training.checkpointing.state import write_snapshot

    assert ranks.leader_tries(lambda: start_writing(folder)) is None
    files, fault = write_snapshot(
        training.run, training.progress, partial_of(folder), {"wandb_id": "abc"}
    )
    assert fault is None
    written = Checkpoint(folder, 3, 0, ranks.world_size(), None, {}, {}, files)
    assert ranks.leader_tries(lambda: complete(written)) is None


def resumed(overrides, folder, world_size, changed=False):
    """A fresh training put back to the checkpoint, and what it has come to three steps later."""
    from hdkd_dist.training.checkpointing.state import read_snapshot

    training = Training(overrides)
    training.run.weights.gamma += 0.5  # whatever a fresh start has is replaced
    training.progress, extra = read_snapshot(training.run, folder, world_size, changed)
    assert (training.progress.metaval_batches, extra) == (3, {"wandb_id": "abc"})
    training.go_on(3)
    return training.result()


def interrupted(folder):
    """By ZeRO stage: six steps in one go, and three more steps after a checkpoint at the third."""
    results = []
    for stage in STAGES:
        overrides = {**TWO_MICRO_BATCHES, "zero_optimization": {"stage": stage}}
        training = Training(overrides)
        training.go_on(3)
        training.progress.metaval_batches = 3
        place = folder / str(stage) / "step-00000003"
        write(training, place)
        training.go_on(3, again=True)
        results.append((training.result(), resumed(overrides, place, 2)))
    return results


def on_one_rank(folder):
    section = {"epochs": 9, "base_lr": 0.02, "base_batch": 32, "milestones": [1, 2], "decay": 0.5}
    changed = {**FOUR_MICRO_BATCHES, "hdkd.schedule": section}
    return (
        resumed(FOUR_MICRO_BATCHES, folder, 2),
        resumed(changed, folder, 2, changed=True),
    )


STAGES = (0, 2)
BASE = {"hdkd.loss.temperature": "anneal", "hdkd.gamma.optimizer": "adam", "hdkd.gamma.lr": 0.01}
TWO_MICRO_BATCHES = {**BASE, "gradient_accumulation_steps": 2}
FOUR_MICRO_BATCHES = {**BASE, "gradient_accumulation_steps": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("snapshots")


@pytest.fixture(scope="module")
def two_ranks(folder):
    return on_ranks(2, interrupted, folder)


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_go_on_to_the_bit(two_ranks, stage):
    place = STAGES.index(stage)
    for whole, found in (results[place] for results in two_ranks):
        for name in (
            *("parameters", "buffers", "averaged", "averaged_buffers"),
            *("gamma", "average_ce", "temperature", "rate"),
        ):
            assert torch.equal(found[name], whole[name]), name
        assert torch.equal(found["random"], whole["random"])
        assert found["summary"] == whole["summary"]
    assert two_ranks[0][place][0]["summary"].gradient_norm > 0
    first, second = (results[place][0] for results in two_ranks)
    assert not torch.equal(first["buffers"], second["buffers"])  # each has its own
    assert torch.equal(first["parameters"], second["parameters"])


def test_another_number_of_ranks_goes_on_with_the_same_batches(two_ranks, folder):
    """One rank that forwards the two ranks' shards: equal up to rounding and running statistics."""
    expected, _ = two_ranks[0][0]
    checkpoint = folder / "0/step-00000003"
    names = {path.name for path in checkpoint.glob("*.pt")}
    assert names == {"mp_rank_00_model_states.pt", "rank_00000.pt", "rank_00001.pt"}
    ((found, changed),) = on_ranks(1, on_one_rank, checkpoint)
    torch.testing.assert_close(found["parameters"], expected["parameters"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["averaged"], expected["averaged"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["gamma"], expected["gamma"], rtol=0, atol=1e-2)
    assert found["rate"] == expected["rate"]
    ours, theirs = found["summary"], expected["summary"]
    assert ours.losses == pytest.approx(theirs.losses, rel=1e-3)
    assert ours.top1 == pytest.approx(theirs.top1)
    assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-3)
    assert changed["rate"].tolist() == pytest.approx([0.02 * 0.25])  # the new schedule's at step 6
