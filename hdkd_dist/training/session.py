"""A training session from start to end: open the data, build, train, evaluate, write down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from hdkd_dist.data.digits import prepare_digits
from hdkd_dist.data.manifest import EMBEDDED, Manifest, data_folder, read_manifest
from hdkd_dist.inference.results import exit_rows, table, update_results
from hdkd_dist.inference.trained import WEIGHTS
from hdkd_dist.method.layout import LossLayout
from hdkd_dist.models import exit_costs
from hdkd_dist.training import ranks
from hdkd_dist.training.config import Config
from hdkd_dist.training.engine import joined_ranks, network_state
from hdkd_dist.training.figures import draw_figures
from hdkd_dist.training.pace import Pace
from hdkd_dist.training.reporter import Reporter
from hdkd_dist.training.run import Run, build_run
from hdkd_dist.training.tracking import Tracker
from hdkd_dist.training.trainer import evaluate, train


def execute(config: Config) -> None:
    """Train as configured; collective. Rank 0 writes the run folder and prints the result.

    Raises:
        ValueError: in one line, for settings and data that do not fit, or a run that diverges.
    """
    with joined_ranks() as device:
        with ranks.agreement(device):
            if config.hdkd.data.path == EMBEDDED and ranks.local_rank() == 0:
                prepare_digits(data_folder(EMBEDDED))  # on first use
        with ranks.agreement(device):
            manifest = read_manifest(data_folder(config.hdkd.data.path))
        run = build_run(config, manifest, device)
        train_and_report(config, run, manifest, Path(config.hdkd.run.out))


def train_and_report(config: Config, run: Run, manifest: Manifest, folder: Path) -> None:
    """Train, evaluate and write everything down; collective."""
    leader = ranks.rank() == 0
    with ranks.agreement(run.device):
        if leader:
            open_folder(folder, config)
    tracker = Tracker(folder, config.hdkd.run, config.as_json()) if leader else None
    reporter = Reporter(run, tracker)
    try:
        pace, validation = train(run, reporter)
        finish(run, manifest, pace, validation, reporter, folder)
    finally:
        reporter.close()


def open_folder(folder: Path, config: Config) -> None:
    """Make the run's folder with its configuration; an earlier run there is moved aside."""
    if (folder / "config.json").exists():
        number = 1
        while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
            number += 1
        folder.rename(aside)
        print(f"{folder} held an earlier run, which is now {aside}")
    try:
        (folder / WEIGHTS.parent).mkdir(parents=True, exist_ok=True)
        text = json.dumps(config.as_json(), indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"cannot write the run to {folder}: {error}; choose another --out"
        ) from None


def finish(
    run: Run, manifest: Manifest, pace: Pace, validation: Tensor, reporter: Reporter, folder: Path
) -> None:
    """Evaluate the trained network and leave weights, results and pictures; collective."""
    network = run.engine.module
    test = evaluate(run, run.readers.test) if run.settings.run.test else None
    state = network_state(network)
    replicas = ranks.gather_from_ranks(run.harmony.gamma)
    if ranks.rank() != 0:
        return
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
    rows = exit_rows(exit_costs(network, run.image_size), validation, test)
    gamma = run.harmony.record(LossLayout(network.num_exits))
    gamma["sha256_by_rank"] = [digest(replica) for replica in replicas]
    speed = {"steps": run.steps, **pace.record()}
    update_results(
        folder, {**describe(run, manifest), "exits": rows, "gamma": gamma, "train": speed}
    )
    pictures = draw_figures(folder)
    reporter.finish(run.steps, rows, pictures)
    print(table(rows))
    print(f"{folder}: weights, results.json, metrics.jsonl, {', '.join(p.name for p in pictures)}")


def digest(tensor: Tensor) -> str:
    """sha256 of a tensor's bits."""
    return hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest()


def describe(run: Run, manifest: Manifest) -> dict[str, Any]:
    """What was trained, on what."""
    settings = run.settings
    return {
        "method": settings.method,
        "dataset": manifest.name,
        "preset": settings.model.preset,
        "seed": settings.run.seed,
        "world_size": run.share.world_size,
    }
