"""Splits as exit policies see them, made up, for the tests of policies and searches."""

from __future__ import annotations

import torch

from hdkd_dist.inference.confidence import Judged, fitted_temperatures, judge
from hdkd_dist.inference.outputs import Outputs

COSTS = [1.0, 2.5, 3.5, 5.0]


def outputs(images: int, seed: int, exits: int = 4, classes: int = 10) -> Outputs:
    """Logits that become better from exit to exit, on easy and hard images."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    labels = torch.randint(classes, (images,), generator=generator)
    ease, noise, logits = normal(images), normal(images, classes), []
    for k in range(exits):
        noise = 0.8 * noise + 0.6 * normal(images, classes)
        each = noise.clone()
        each[torch.arange(images), labels] += 1.2 + 0.4 * k + ease
        logits.append(1.5 * each)
    return Outputs(torch.stack(logits), labels, torch.arange(images))


def split(images: int, seed: int) -> Judged:
    made = outputs(images, seed)
    fitted = fitted_temperatures(made.logits, made.labels)
    return judge(made, fitted, fitted)
