"""Whether the runtimes answer alike: onnxruntime and folded torch against torch, image by image.

    python benchmarks/agreement.py --run runs/X        # an evaluated run, on all its test images

Under every eighth budget of the run an image counts as different when its exit or class differs,
and as excused when a confidence lies within 1e-4 of its threshold, or the two best classes of an
exit within 1e-4 of each other: there rounding may decide.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from exit_subject import Subject, export, trained_subject

from hdkd_dist import cli
from hdkd_dist.inference.onnx_stages import CPU, OnnxStages
from hdkd_dist.inference.runtime import Answers, EarlyExitRunner, Stages, top_probability
from hdkd_dist.inference.torch_stages import TorchStages, fold_batch_norm

CLOSE = 1e-4
EVERY = 8  # budgets
BATCH = 256


def answers(stages: Stages, subject: Subject, thresholds: list[float]) -> Answers:
    """Answer for all images under one policy."""
    runner = EarlyExitRunner(stages, thresholds, subject.temperatures)
    images = subject.images
    parts = [runner(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    return Answers(*(np.concatenate(values) for values in zip(*parts, strict=True)))


@torch.inference_mode()
def undecided(subject: Subject, thresholds: list[float]) -> np.ndarray:
    """Find the images [N] that rounding may send elsewhere: see the top of this file."""
    close = np.zeros(len(subject.images), bool)
    for i in range(0, len(subject.images), BATCH):
        logits = subject.network(torch.from_numpy(subject.images[i : i + BATCH])).numpy()
        for k, (z, t) in enumerate(zip(logits, subject.temperatures, strict=True)):
            confidence, _ = top_probability(z, t)
            second, first = np.sort(torch.from_numpy(z / t).softmax(-1).numpy(), axis=-1)[:, -2:].T
            close[i : i + len(z)] |= first - second < CLOSE
            if k < len(logits) - 1:
                close[i : i + len(z)] |= np.abs(confidence - thresholds[k]) < CLOSE
    return close


def main(run: str, data: str | None = None, images: int = 1_000_000) -> None:
    """Compare the runtimes under budgets of an evaluated run; prints JSON lines.

    Args:
        run: its folder.
        data: its prepared data set, if it is not where it was.
        images: at most so many test images.
    """
    subject = trained_subject(Path(run), data, images)
    with tempfile.TemporaryDirectory() as folder:
        runtimes: dict[str, Stages] = {
            "torch folded": TorchStages(fold_batch_norm(subject.network)),
            "onnxruntime": OnnxStages(export(subject, Path(folder)), None, [CPU]),
        }
        plain = TorchStages(subject.network)
        policies = zip(subject.budgets, subject.thresholds.tolist(), strict=True)
        for budget, row in list(policies)[EVERY // 2 :: EVERY]:
            expected, excused = answers(plain, subject, row), undecided(subject, row)
            for name, stages in runtimes.items():
                found = answers(stages, subject, row)
                differ = (found.exit != expected.exit) | (found.prediction != expected.prediction)
                line = {
                    "runtime": name,
                    "budget_mmac": round(budget, 3),
                    "images": len(differ),
                    "differ": int(differ.sum()),
                    "differ_unexcused": int((differ & ~excused).sum()),
                    "excused": int(excused.sum()),
                    "largest_confidence_error": float(
                        np.abs(found.confidence - expected.confidence)[~differ].max()
                    ),
                }
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    cli.run(main)
