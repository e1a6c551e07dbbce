"""What 8-bit integers cost and gain: accuracy per exit, budget curve and size beside float32.

    python benchmarks/int8.py --run runs/X        # a finished run, on all its test images
    python benchmarks/int8.py --run runs/X --split extra

onnxruntime quantises the exported stages (static, per channel), calibrated on images of the
meta-validation split; temperatures and thresholds are found anew there for both. `inference.py`
measures the time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from exit_subject import Subject, export
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from hdkd_dist import cli
from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.streams import ReadOptions
from hdkd_dist.evaluation.evaluate_run import COMPARED, SPLITS, EvaluationData, manifest_of
from hdkd_dist.evaluation.measures import Evaluation, budgeted_results, evaluate_outputs
from hdkd_dist.inference.exported import Exported, load_exported, write_description
from hdkd_dist.inference.onnx_stages import OnnxStages
from hdkd_dist.inference.runtime import Stages
from hdkd_dist.models import exit_costs, resolve
from hdkd_dist.runs.network import load_network, read_run
from hdkd_dist.runs.results import read_results

SEED = 0


class Calibration(CalibrationDataReader):
    """Inputs of one stage, in one batch."""

    def __init__(self, feed: dict[str, np.ndarray]) -> None:
        self.feeds = iter([feed])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def quantise(exported: Exported, images: np.ndarray) -> Exported:
    """Write the stages in 8-bit integers beside the exported ones.

    Args:
        exported: the stages in float32.
        images: normalised, [B, 3, H, W], by which the ranges of all maps are set.
    """
    stages = OnnxStages(exported)
    state = stages.begin(images)
    folder = exported.folder / "int8"
    (folder / "onnx").mkdir(parents=True)
    files = []
    for k, file in enumerate(exported.stage_files()):
        prepared, quantised = folder / "prepared.onnx", folder / "onnx" / file.name
        quant_pre_process(file, prepared, skip_symbolic_shape=True)
        feed = dict(zip(stages.inputs[k], state, strict=True))
        quantize_static(
            prepared, quantised, Calibration(feed), per_channel=True, weight_type=QuantType.QInt8
        )
        state, _ = stages.run(k, state)
        files.append(quantised)
    description = json.loads((exported.folder / "model.json").read_text())
    write_description(folder, description, files)
    return load_exported(folder)


def all_exits(stages: Stages) -> Callable[[Tensor], Tensor]:
    """Give images [B, 3, H, W] → logits [K, B, C]."""

    def forward(images: Tensor) -> Tensor:
        state, logits = stages.begin(images.numpy()), []
        for k in range(stages.num_exits):
            state, of_exit = stages.run(k, state)
            logits.append(torch.from_numpy(of_exit))
        return torch.stack(logits)

    return forward


def right_per_exit(evaluation: Evaluation) -> Tensor:
    """Tell for each exit and test image whether the answer is right, [K, N]."""
    outputs = evaluation.outputs["test"]
    order = outputs.indices.argsort()
    return (outputs.logits.argmax(-1) == outputs.labels)[:, order]


def finished(run: Path, data: str | None) -> tuple[Subject, Manifest]:
    """Read a finished run's network and data; nobody leaves early."""
    config, manifest, results = read_run(run), manifest_of(run, data), read_results(run)
    model = config["hdkd"]["model"]
    size = resolve(model["preset"], model["overrides"]).input_size
    exits = len(results["exits"])
    mmac = [row["mmac"] for row in results["exits"]]
    subject = Subject(
        run.name,
        model["preset"],
        model["overrides"],
        load_network(run, config, len(manifest.classes)),
        np.zeros((1, 3, size, size), np.float32),
        mmac,
        [1.0] * exits,
        mmac[-1:],
        torch.full((1, exits), 2.0),
    )
    return subject, manifest


def main(
    run: str, data: str | None = None, split: str = SPLITS["test"], calibration: int = 512
) -> None:
    """Compare both; prints JSON lines.

    Args:
        run: the folder of a finished run.
        data: its prepared data set, if it is not where it was.
        split: on whose images accuracy is measured.
        calibration: images of the meta-validation split that set the ranges.
    """
    subject, manifest = finished(Path(run), data)
    size = subject.images.shape[-1]
    reading = ReadOptions(torch.device("cpu"))
    images = EvaluationData(manifest, manifest.image, size, 256, reading)
    validation = SPLITS["validation"]
    drawn = np.random.default_rng(SEED).permutation(images.reader(validation).samples)
    normalize = Normalize.of(manifest.image["mean"], manifest.image["std"], "cpu")
    shown = normalize(images.images(validation, drawn[:calibration].tolist())).numpy()
    costs = exit_costs(subject.network, size)
    found: dict[str, Evaluation] = {}
    with tempfile.TemporaryDirectory() as folder:
        exported = export(subject, Path(folder))
        for name, files in {"float32": exported, "int8": quantise(exported, shown)}.items():
            forward = all_exits(OnnxStages(files))
            outputs = [images.outputs(forward, each) for each in (validation, split)]
            found[name] = evaluate_outputs(costs, *outputs)
            line = {
                "stages": name,
                "onnx_mb": sum(file.stat().st_size for file in files.stage_files()) / 1e6,
                "images": len(found[name].outputs["test"].labels),
                "top1": (100 * right_per_exit(found[name]).double().mean(dim=1)).tolist(),
                "budgets": [
                    {key: row[key] for key in ("budget_mmac", "mmac", "top1")}
                    for row in budgeted_results(found[name])["budgeted"][COMPARED]
                ],
            }
            print(json.dumps(line), flush=True)
    gain = (right_per_exit(found["int8"]).double() - right_per_exit(found["float32"]).double()).T
    error = 100 * gain.std(dim=0) / len(gain) ** 0.5
    print(
        json.dumps(
            {"int8_less_float32": (100 * gain.mean(dim=0)).tolist(), "error": error.tolist()}
        )
    )


if __name__ == "__main__":
    cli.run(main)
