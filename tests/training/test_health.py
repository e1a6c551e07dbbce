"""Warnings: at the right figures, once per kind, and saying what to do."""

from __future__ import annotations

from dataclasses import replace

import torch

from hdkd_dist.training import health
from hdkd_dist.training.health import Health, HealthRecord, memory_in_use

CPU = torch.device("cpu")
GOOD = HealthRecord(seconds=0, images_per_s=100, waiting=0.01, memory=0.5, sum_ratio=1.1)


def look(figures, workers=1):
    """Warnings of the figures after they have lasted for five minutes, and of one record more."""
    watch = Health(workers, CPU)
    for _ in range(2):
        assert watch.warnings(GOOD) == []
    watch.warnings(replace(GOOD, **figures, seconds=60))
    return [watch.warnings(replace(GOOD, **figures, seconds=after)) for after in (360, 420)]


def test_what_passes_within_minutes_is_no_alarm():
    watch = Health(1, CPU)
    for minute in range(20):
        pause = {"images_per_s": 20, "waiting": 0.9} if minute % 5 else {}
        assert watch.warnings(replace(GOOD, **pause, seconds=60 * minute)) == []


def test_slow_loader_asks_for_workers_while_there_are_cores(monkeypatch):
    monkeypatch.setattr(health, "available_cores", lambda: 4)
    slow = {"waiting": 0.31}
    (said,), again = look(slow)
    assert said == (
        "the loader is the bottleneck: 31% waiting; raise hdkd.data.workers (now 1 of 4 cores)"
    )
    assert again == []
    (said,), _ = look(slow, workers=4)
    assert "every core has its worker already" in said


def test_speed_that_stays_low():
    (said,), again = look({"images_per_s": 40})
    assert "slowed down to 40 images/s from 100, for 5 minutes: look for" in said
    assert again == []


def test_memory_and_the_sum_of_gamma_are_said_at_once():
    for figures, words in (
        ({"memory": 0.97}, "97% of the memory of the node is in use: lower"),
        ({"sum_ratio": 4.5}, "the sum of γ is 4.50 times what it was"),
    ):
        watch = Health(1, CPU)
        (said,) = watch.warnings(replace(GOOD, **figures))
        assert words in said
        assert watch.warnings(replace(GOOD, **figures)) == []


def test_memory_in_use_is_a_share():
    assert 0 < memory_in_use(CPU) < 1
