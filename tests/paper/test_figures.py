"""Pictures of several runs."""

from __future__ import annotations

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.paper.figures import Curve, draw_budgeted, draw_gamma_over_seeds
from hdkd_dist.paper.studies import plain

PNG = b"\x89PNG"


def test_a_curve_is_read_off_between_its_budgets():
    curve = Curve("CIFAR(500)", "HDKD", 3, [10.0, 30.0], [9.0, 28.0], [80.0, 90.0], [0.5, 0.4])
    assert curve.at(15.0) == pytest.approx(82.5)
    assert curve.at(99.0) == 90.0


def test_pictures_are_drawn(tmp_path):
    curve = Curve("CIFAR(500)", "HDKD", 3, [10.0, 30.0], [9.0, 28.0], [80.0, 90.0], [0.5, 0.4])
    bench = SMALL.benches["cifar100"]
    runs = [
        record(plain(SMALL, bench, 150, "hdkd", no_settings).with_seed(seed), [1.0] * 4)
        for seed in (0, 1)
    ]
    for file in (
        draw_budgeted([curve], tmp_path / "below" / "budgets.png"),
        draw_gamma_over_seeds(runs, "HDKD", tmp_path / "gamma.png"),
    ):
        assert file.read_bytes().startswith(PNG)
