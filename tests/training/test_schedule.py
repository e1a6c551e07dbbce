"""Linear scaling, warm-up and the ways in which the rate falls."""

from __future__ import annotations

import math

import pytest
import torch

from hdkd_dist.config.settings import ScheduleSettings
from hdkd_dist.training.engine import learning_rate, schedule

IMAGENET = ScheduleSettings(
    epochs=90, base_lr=0.1, base_batch=256, milestones=(30, 60), warmup_epochs=5
)


def rates(settings, batch, steps_per_epoch):
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=learning_rate(settings, batch))
    scheduler = schedule(optimizer, settings, batch, steps_per_epoch)
    seen = []
    for _ in range(settings.epochs * steps_per_epoch):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_imagenet_at_batch_1024():
    seen = rates(IMAGENET, 1024, steps_per_epoch=10)
    assert seen[0] == pytest.approx(0.1)
    assert seen[25] == pytest.approx(0.25)  # half way up
    assert seen[50:300] == pytest.approx([0.4] * 250)
    assert seen[300:600] == pytest.approx([0.04] * 300)
    assert seen[600:] == pytest.approx([0.004] * 300)


def test_cifar_has_no_warmup():
    settings = ScheduleSettings(epochs=4, base_lr=0.1, base_batch=128, milestones=(2, 3))
    assert rates(settings, 128, 2) == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_small_batch_needs_no_warmup():
    assert rates(IMAGENET, 128, 1)[0] == pytest.approx(0.05)


def test_milestones_between_epochs():
    settings = ScheduleSettings(epochs=1, base_lr=1.0, base_batch=1, milestones=(0.5,))
    assert rates(settings, 1, 4) == pytest.approx([1, 1, 0.1, 0.1])


def test_cosine_and_line_end_at_nothing():
    settings = {"epochs": 2, "base_lr": 0.5, "base_batch": 1}
    cosine = rates(ScheduleSettings(kind="cosine", **settings), 1, 4)
    line = rates(ScheduleSettings(kind="linear", **settings), 1, 4)
    assert cosine == pytest.approx([0.25 * (1 + math.cos(math.pi * t / 8)) for t in range(8)])
    assert line == pytest.approx([0.5 * (1 - t / 8) for t in range(8)])


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_warm_up_multiplies_what_falls(kind):
    settings = {"kind": kind, "epochs": 2, "base_lr": 0.5, "base_batch": 1}
    plain = rates(ScheduleSettings(**settings), 1, 4)
    warm = rates(ScheduleSettings(warmup_epochs=1, warmup_start=0, **settings), 1, 4)
    rising = [max(1e-6, t / 4) for t in range(4)] + [1] * 4
    assert warm == pytest.approx([p * r for p, r in zip(plain, rising, strict=True)], rel=1e-4)


def test_a_schedule_that_falls_smoothly_has_no_milestones():
    with pytest.raises(ValueError, match='kind "linear" has no milestones'):
        ScheduleSettings(kind="linear", epochs=2, base_lr=1, base_batch=1, milestones=(1,))
