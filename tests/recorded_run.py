"""A run's folder as training leaves it, written by its own tracker and reporter, untrained."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch

from hdkd_dist.config.settings import Settings
from hdkd_dist.method.objective import LossLayout
from hdkd_dist.models import ExitCosts
from hdkd_dist.runs.results import exit_rows, update_results
from hdkd_dist.training.gamma import configured_weights, gamma_record
from hdkd_dist.training.measure import Meter, Progress, Summary
from hdkd_dist.training.reporter import Reporter
from hdkd_dist.training.tracking import Tracker

STEPS = 4  # per epoch; recorded every 2
IMAGES = 200  # of the validation split


def settings(method: str = "hdkd", **sections) -> Settings:
    given = {
        "method": method,
        "model": {"preset": "msdnet-digits"},
        "schedule": {"epochs": 3, "base_lr": 0.1, "base_batch": 8},
        "run": {"wandb": "disabled"},
    }
    return Settings.model_validate({**given, **sections})


def record_run(
    folder: Path, chosen: Settings | None = None, exits: int = 3, finished: bool = True
) -> Path:
    """Exit k is right on 50 + 10·epoch + k images; γ's entry i grows by 0.01·(i + 1) per step."""
    chosen = chosen or settings()
    folder.mkdir(parents=True)
    config = {"train_batch_size": 8, "hdkd": chosen.model_dump(mode="json")}
    (folder / "config.json").write_text(json.dumps(config))
    layout = LossLayout(exits)
    device, epochs = torch.device("cpu"), chosen.schedule.epochs
    weights = configured_weights(chosen, exits, epochs * STEPS, device)
    weights.meta.average_ce = torch.ones(exits)
    run = SimpleNamespace(
        engine=SimpleNamespace(module=SimpleNamespace(num_exits=exits)),
        weights=weights,
        settings=chosen,
        steps=epochs * STEPS,
        device=device,
    )
    tracker = Tracker(folder, chosen.run, config)
    progress = Progress(Meter(exits, device))
    reporter = Reporter(run, tracker, progress)
    growth = 0.01 * torch.arange(1, len(layout) + 1) * weights.exists
    for epoch in range(epochs):
        for step in range(epoch * STEPS + 1, (epoch + 1) * STEPS + 1):
            if weights.optimizer is not None:
                weights.gamma += growth
            progress.pace.images += 8
            if step % 2 == 0:
                losses = [1 / (step + place) for place in range(len(layout))]
                norm = None if weights.optimizer is None else 0.5
                summary = Summary(losses, [10.0 * step] * exits, norm, 1.5)
                reporter.step(step, epoch, 0.1, summary, progress.pace)
        counts = validation_counts(epoch, exits)
        reporter.epoch((epoch + 1) * STEPS, epoch, counts)
    if finished:
        costs = ExitCosts([10.0 * (k + 1) for k in range(exits)], [100] * exits)
        rows = exit_rows(costs, counts, counts - torch.tensor([[1], [0], [0]]))
        update_results(
            folder,
            {
                "method": chosen.method,
                "dataset": "digits",
                "preset": chosen.model.preset,
                "seed": chosen.run.seed,
                "world_size": 1,
                "exits": rows,
                "gamma": gamma_record(weights, layout, sha256_by_rank=[]),
                "train": {
                    "steps": epochs * STEPS,
                    "images_per_s": 123.0,
                    "wait_fraction": 0.25,
                    "seconds": 7200.0,
                },
            },
        )
        reporter.finish(epochs * STEPS, rows, [])
    reporter.close()
    return folder


def validation_counts(epoch: int, exits: int) -> torch.Tensor:
    right = torch.tensor([50 + 10 * epoch + k for k in range(exits)])
    return torch.stack([right, right + 20, torch.full((exits,), IMAGES)])
