"""What a finished run leaves: weights, results and pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.inference.results import exit_rows, table, update_results
from hdkd_dist.inference.trained import WEIGHTS
from hdkd_dist.method.layout import LossLayout
from hdkd_dist.models import exit_costs
from hdkd_dist.training import ranks
from hdkd_dist.training.engine import network_state
from hdkd_dist.training.figures import draw_figures
from hdkd_dist.training.progress import Progress
from hdkd_dist.training.reporter import Reporter
from hdkd_dist.training.run import Run


def finish(
    run: Run,
    manifest: Manifest,
    progress: Progress,
    test: Tensor | None,
    reporter: Reporter,
    folder: Path,
) -> None:
    """Leave weights, results and pictures; collective."""
    network = run.engine.module
    state = network_state(network)
    replicas = ranks.gather_from_ranks(run.harmony.gamma)
    if ranks.rank() != 0:
        return
    save_file({name: value.contiguous() for name, value in state.items()}, folder / WEIGHTS)
    rows = exit_rows(exit_costs(network, run.image_size), progress.validation, test)
    gamma = run.harmony.record(LossLayout(network.num_exits))
    gamma["sha256_by_rank"] = [digest(replica) for replica in replicas]
    speed = {"steps": run.steps, **progress.pace.record()}
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
