"""A network, images and thresholds to measure with: a finished run's, or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from hdkd_dist.evaluation.thresholds import budgets_between, geometric
from hdkd_dist.inference.exported import FORMAT, WEIGHTS, Exported, load_exported, write_description
from hdkd_dist.inference.onnx_files import write_onnx
from hdkd_dist.inference.preprocessing import Preprocessing
from hdkd_dist.inference.runtime import top_probability
from hdkd_dist.inference.torch_stages import fold_batch_norm
from hdkd_dist.models import MultiExitNetwork, build, exit_costs, resolve
from hdkd_dist.runs.results import read_results


@dataclass(frozen=True)
class Subject:
    """A network, images [N, 3, H, W] float32, normalised, and thresholds for rising budgets."""

    name: str
    preset: str
    overrides: dict
    network: MultiExitNetwork
    images: np.ndarray
    mmac: Sequence[float]
    temperatures: Sequence[float]
    budgets: Sequence[float]  # [M], MMAC
    thresholds: torch.Tensor  # [M, K]


def random_subject(preset: str, images: int) -> Subject:
    """Random weights and images."""
    torch.manual_seed(0)
    network = build(preset).eval()
    size = resolve(preset, {}).input_size
    pixels = np.random.default_rng(0).standard_normal((images, 3, size, size), np.float32)
    mmac = exit_costs(network, size).mmac
    budgets = budgets_between(mmac)
    ones = [1.0] * network.num_exits
    thresholds = geometric(confidences(network, pixels, ones), mmac, budgets)
    return Subject(
        f"{preset}, random", preset, {}, network, pixels, mmac, ones, budgets.tolist(), thresholds
    )


def trained_subject(run: Path, data: str | None, images: int) -> Subject:
    """An evaluated run, its test images and the thresholds found on validation."""
    from hdkd_dist.data.normalize import Normalize
    from hdkd_dist.data.readers.opening import open_split
    from hdkd_dist.data.streams import ReadOptions
    from hdkd_dist.evaluation.evaluate_run import manifest_of
    from hdkd_dist.runs.network import load_network, read_run

    config, manifest, results = read_run(run), manifest_of(run, data), read_results(run)
    if "budgeted" not in results:
        raise ValueError(
            f"{run} has no thresholds yet: run hdkd_dist/evaluate.py --run {run} first"
        )
    model = config["hdkd"]["model"]
    size = resolve(model["preset"], model["overrides"]).input_size
    reading = ReadOptions(torch.device("cpu"))
    reader = open_split(manifest, "test", image_size=size, batch=256, reading=reading)
    wanted = min(images, reader.samples)
    order = np.random.default_rng(0).permutation(reader.samples)[:wanted]
    pixels = torch.cat([part.images for part in reader.read(order)])
    normalize = Normalize.of(manifest.image["mean"], manifest.image["std"], "cpu")
    rows = results["budgeted"]
    return Subject(
        f"{run.name}, {model['preset']}",
        model["preset"],
        model["overrides"],
        load_network(run, config, len(manifest.classes)),
        normalize(pixels).numpy(),
        [row["mmac"] for row in results["exits"]],
        results["confidence"]["temperatures"],
        [row["budget_mmac"] for row in rows],
        torch.tensor([row["thresholds"] for row in rows]),
    )


@torch.inference_mode()
def confidences(
    network: MultiExitNetwork, images: np.ndarray, temperatures: Sequence[float]
) -> torch.Tensor:
    """Of every exit on every image, [K, N]."""
    parts = [network(torch.from_numpy(part)) for part in np.array_split(images, 4)]
    logits = torch.cat(parts, dim=1).numpy()
    found = [top_probability(z, t)[0] for z, t in zip(logits, temperatures, strict=True)]
    return torch.from_numpy(np.stack(found))


def export(subject: Subject, folder: Path) -> Exported:
    """Write the subject as export.py would."""
    weights = folder / WEIGHTS
    save_file(subject.network.state_dict(), weights)
    size, exits = subject.images.shape[-1], subject.network.num_exits
    classes = subject.network.classifiers[0].linear.out_features
    rows = zip(subject.budgets, subject.thresholds.tolist(), strict=True)
    description = {
        "format": FORMAT,
        "preset": subject.preset,
        "overrides": subject.overrides,
        "classes": [str(label) for label in range(classes)],
        "preprocessing": Preprocessing(size, 1.0, None, [0.5] * 3, [0.25] * 3).as_json(),
        "temperatures": list(subject.temperatures),
        "exits": [{"mmac": cost} for cost in subject.mmac],
        "budgets": [
            {"budget_mmac": budget, "thresholds": thresholds, "val_shares": [1 / exits] * exits}
            for budget, thresholds in rows
        ],
        "validation": {"images": 1, "histograms": [[1.0]] * exits},
    }
    graphs = write_onnx(fold_batch_norm(subject.network), description, folder / "onnx")
    write_description(folder, description, [weights, *graphs])
    return load_exported(folder)
