"""Evaluating finished runs: their splits are read with FFCV, their folders get the results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.streams import Reading
from hdkd_dist.inference import figures
from hdkd_dist.inference.evaluation import (
    COMPARED,
    Evaluation,
    anytime_rows,
    best_of_networks,
    budgeted_results,
    evaluate_outputs,
    latency_results,
)
from hdkd_dist.inference.image_grid import draw_easy_and_hard
from hdkd_dist.inference.latency import measure_stages, sizes_up_to
from hdkd_dist.inference.outputs import save_outputs
from hdkd_dist.inference.results import budget_table, table, update_results
from hdkd_dist.inference.trained import load_network, read_run, trained_on
from hdkd_dist.models import exit_costs, resolve
from hdkd_dist.training.evaluation_request import SPLITS, Options, manifest_of
from hdkd_dist.training.source import Source


@dataclass(frozen=True)
class Evaluated:
    """A run and its results."""

    folder: Path
    manifest: Manifest
    results: Mapping[str, Any]


def evaluate_run(folder: Path, options: Options) -> Evaluated:
    """Evaluate one run; its folder gets the results and pictures unless the data are others.

    Raises:
        ValueError: for a folder, weights or data that do not fit.
    """
    config = read_run(folder)
    manifest = manifest_of(folder, options.data)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    network = load_network(folder, config, len(manifest.classes)).to(device)
    model = config["hdkd"]["model"]
    image_size = resolve(model["preset"], model["overrides"]).input_size
    trained = (trained_on(folder) or manifest).image
    reading = Reading(device, options.workers)
    source = Source(manifest, trained, image_size, options.batch, reading)
    outputs = {name: source.outputs(network, split) for name, split in SPLITS.items()}
    evaluation = evaluate_outputs(
        exit_costs(network, image_size), **outputs, kind=options.confidence
    )
    times = measure_stages(network, image_size, sizes_up_to(options.latency_batch))
    budgeted = budgeted_results(evaluation)
    timed = latency_results(budgeted["budgeted"], times, device)
    results = {"exits": anytime_rows(evaluation), **budgeted, **timed}
    drawn = []
    if options.data is None:  # before anything is printed: nobody may be reading
        if options.save_logits:
            for name, each in outputs.items():
                save_outputs(each, folder / "logits" / f"{name}.safetensors")
        update_results(folder, results)
        title = f"{model['preset']} on {manifest.name}"
        drawn = draw(folder / "figures", title, evaluation, results, source)
    print(f"{folder}, {manifest.name}")
    print(table(results["exits"]))
    print(budget_table(results["budgeted"][COMPARED]))
    if drawn:
        print(f"{folder}: results.json, {', '.join(file.name for file in drawn)}")
    return Evaluated(folder, manifest, results)


def draw(
    folder: Path, title: str, evaluation: Evaluation, results: Mapping[str, Any], source: Source
) -> list[Path]:
    """Draw a network's pictures; returns the files."""
    names = ("anytime", "budgeted", "exits_taken", "reliability", "easy_and_hard")
    anytime, budgeted, taken, reliability, grid = (folder / f"{name}.png" for name in names)
    figures.draw_anytime(results["exits"], title, anytime)
    figures.draw_budgeted(results, evaluation.test, title, budgeted)
    figures.draw_exits_taken(results["budgeted"], taken)
    figures.draw_reliability(evaluation, reliability)
    drawn = [anytime, budgeted, taken, reliability]
    rows = results["budgeted"]
    if draw_easy_and_hard(
        evaluation,
        rows[len(rows) // 2],
        source.manifest.classes,
        lambda places: source.images("test", places),
        grid,
    ):
        drawn.append(grid)
    return drawn


def compare_runs(evaluated: Sequence[Evaluated], out: Path) -> None:
    """Write and draw one curve: for each budget the network that validation finds best."""
    names = short_names([each.folder for each in evaluated])
    networks = {name: each.results["budgeted"] for name, each in zip(names, evaluated, strict=True)}
    best = best_of_networks(networks)
    text = json.dumps({"networks": names, "budgeted": best}, indent=1) + "\n"
    (out / "curve.json").write_text(text, encoding="utf-8")
    file = out / "networks.png"
    figures.draw_networks(networks, best, evaluated[0].manifest.name, file)
    print(budget_table(best[COMPARED]))
    print(f"{out}: curve.json, {file.name}")


def short_names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their paths where two have the same."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
