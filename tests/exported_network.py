"""An exported network with random weights, for the tests of what uses one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from hdkd_dist.evaluation.thresholds import budget_rows, budgets_between
from hdkd_dist.inference.confidence import fitted_temperatures, judge
from hdkd_dist.inference.exported import FORMAT, WEIGHTS, write_description
from hdkd_dist.inference.onnx_files import write_onnx
from hdkd_dist.inference.outputs import Outputs
from hdkd_dist.inference.preprocessing import Preprocessing
from hdkd_dist.inference.scoring import histogram
from hdkd_dist.inference.torch_stages import fold_batch_norm
from hdkd_dist.models import build, exit_costs

SIZE, CLASSES, VALIDATION = 16, 10, 500


def pixels(images: int, seed: int) -> np.ndarray:
    """Blobs of colour, [N, 16, 16, 3] uint8."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (images, 4, 4, 3), np.uint8)
    return np.kron(coarse, np.ones((1, 4, 4, 1), np.uint8))


def write_exported(folder: Path) -> Path:
    """Three exits; the classes of the validation images are the last exit's guesses."""
    folder.mkdir()
    torch.manual_seed(0)
    network = build("msdnet-digits", CLASSES)
    preprocessing = Preprocessing(SIZE, 1.0, None, [0.4, 0.5, 0.6], [0.2, 0.3, 0.25])
    with torch.no_grad():
        images = torch.from_numpy(preprocessing.normalize(pixels(VALIDATION, seed=1)))
        network.train()(images)  # running statistics
        logits = network.eval()(images)
    made = Outputs(logits, logits[-1].argmax(dim=1), torch.arange(VALIDATION))
    fitted = fitted_temperatures(made.logits, made.labels)
    split = judge(made, fitted, fitted)
    mmac = exit_costs(network, SIZE).mmac
    description = {
        "format": FORMAT,
        "preset": "msdnet-digits",
        "overrides": {},
        "classes": [f"class {c}" for c in range(CLASSES)],
        "preprocessing": preprocessing.as_json(),
        "temperatures": fitted.tolist(),
        "exits": [{"mmac": cost} for cost in mmac],
        "budgets": budget_rows(split, split, mmac, budgets_between(mmac), search="geometric"),
        "validation": {
            "images": VALIDATION,
            "histograms": histogram(split.confidence).tolist(),
        },
    }
    save_file(network.state_dict(), folder / WEIGHTS)
    graphs = write_onnx(fold_batch_norm(network), description, folder / "onnx")
    write_description(folder, description, [folder / WEIGHTS, *graphs])
    return folder
