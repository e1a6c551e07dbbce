"""Warnings: at the right figures, once per kind, and saying what to do."""

from __future__ import annotations

import torch

from hdkd_dist.training import health
from hdkd_dist.training.health import Health, HealthRecord, memory_in_use

CPU = torch.device("cpu")
GOOD = HealthRecord(images_per_s=100, waiting=0.01, memory=0.5, sum_ratio=1.1)


def look(figures, before=6, workers=1):
    watch = Health(workers, CPU)
    for _ in range(before):
        assert watch.warnings(GOOD) == []
    return watch.warnings(figures), watch.warnings(figures)


def test_slow_loader_asks_for_workers_while_there_are_cores(monkeypatch):
    monkeypatch.setattr(health, "available_cores", lambda: 4)
    slow = HealthRecord(100, 0.31, 0.5, 1.0)
    (said,), again = look(slow)
    assert said == (
        "the loader is the bottleneck: 31% waiting; raise hdkd.data.workers (now 1 of 4 cores)"
    )
    assert again == []
    (said,), _ = look(slow, workers=4)
    assert "every core has its worker already" in said


def test_memory_speed_and_the_sum_of_gamma():
    for figures, words in (
        (HealthRecord(100, 0.01, 0.97, 1.0), "97% of the memory of the node is in use: lower"),
        (HealthRecord(40, 0.01, 0.5, 1.0), "slowed down to 40 images/s from 100: look for"),
        (HealthRecord(100, 0.01, 0.5, 4.5), "sum of γ is 4.50 times what it was: .*lower"),
    ):
        (said,), again = look(figures)
        assert all(word in said for word in words.split(".*"))
        assert again == []


def test_first_record_which_compiles_the_loader_does_not_count():
    watch = Health(1, CPU)
    assert watch.warnings(HealthRecord(1, 0.9, 0.5, 1.0)) == []
    assert watch.warnings(GOOD) == []


def test_memory_in_use_is_a_share():
    assert 0 < memory_in_use(CPU) < 1
