"""Evaluating finished runs: their splits are read with FFCV, their folders get the results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hdkd_dist.data.manifest import Manifest, data_folder, read_manifest
from hdkd_dist.data.streams import Reading
from hdkd_dist.inference import figures
from hdkd_dist.inference.confidence import CONFIDENCES
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
from hdkd_dist.inference.results import budget_table, read_results, table, update_results
from hdkd_dist.inference.trained import load_network, read_run
from hdkd_dist.models import exit_costs, resolve
from hdkd_dist.training.source import Source

SPLITS = {"validation": "metaval", "test": "test"}


@dataclass(frozen=True)
class Options:
    """What ``evaluate.py`` was asked for."""

    data: str | None
    batch: int
    workers: int
    confidence: str
    latency_batch: int
    save_logits: bool


@dataclass(frozen=True)
class Evaluated:
    """A run and its results."""

    folder: Path
    manifest: Manifest
    results: Mapping[str, Any]


def named_runs(run: Sequence[str] | str) -> list[Path]:
    """The folders of ``--run A --run B`` or ``--run A,B``.

    Raises:
        ValueError: if one is named twice.
    """
    words = [run] if isinstance(run, str) else run
    names = [name.strip() for word in words for name in str(word).split(",")]
    if not all(names) or len(set(names)) != len(names):
        raise ValueError(f"--run needs the folders of different runs, not {', '.join(names)}")
    return [Path(name) for name in names]


def manifest_of(folder: Path, data: str | None) -> Manifest:
    """The data set that a run is evaluated on: its own, unless ``data`` names another."""
    return read_manifest(data_folder(data or read_run(folder)["hdkd"]["data"]["path"]))


def check_request(folders: Sequence[Path], options: Options) -> None:
    """Find what is wrong before the long work.

    Raises:
        ValueError: for impossible options, runs on different images, or weights or results that
            are damaged.
    """
    numbers = {
        "--batch": options.batch,
        "--workers": options.workers,
        "--latency_batch": options.latency_batch,
    }
    for flag, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{flag} must be a whole number from 1 on, not {value!r}")
    if options.confidence not in CONFIDENCES:
        known = " or ".join(CONFIDENCES)
        raise ValueError(f"--confidence must be {known}, not {options.confidence!r}")
    manifests = [manifest_of(folder, options.data) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        load_network(folder, read_run(folder), len(manifest.classes))
        read_results(folder)
    for split in SPLITS.values():
        if len({manifest.splits[split].sha256 for manifest in manifests}) > 1:
            raise ValueError(
                f"the runs have different {split} splits: one curve needs one data set, see --data"
            )


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
    source = Source(manifest, image_size, options.batch, Reading(device, options.workers))
    outputs = {name: source.outputs(network, split) for name, split in SPLITS.items()}
    evaluation = evaluate_outputs(
        exit_costs(network, image_size), **outputs, kind=options.confidence
    )
    times = measure_stages(network, image_size, sizes_up_to(options.latency_batch))
    budgeted = budgeted_results(evaluation)
    timed = latency_results(budgeted["budgeted"], times, device)
    results = {"exits": anytime_rows(evaluation), **budgeted, **timed}
    print(f"{folder}, {manifest.name}")
    print(table(results["exits"]))
    print(budget_table(results["budgeted"][COMPARED]))
    if options.data is None:
        if options.save_logits:
            for name, each in outputs.items():
                save_outputs(each, folder / "logits" / f"{name}.safetensors")
        update_results(folder, results)
        title = f"{model['preset']} on {manifest.name}"
        drawn = draw(folder / "figures", title, evaluation, results, source)
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
    out.mkdir(parents=True, exist_ok=True)
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
