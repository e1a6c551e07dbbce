"""Costs, counted by hand."""

from __future__ import annotations

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.paper.costs import gpu_precision, step_cost, tmac_per_second, work_of
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES, plain

PAPER = SCALES["paper_cheap"]  # the defaults


def trial(method, size=150, dataset="cifar100"):
    return plain(PAPER, PAPER.benches[dataset], size, method, no_settings)


def test_a_plain_run():
    # 300 epochs of 10,000 images at 3 forward passes of 192.69 MMAC, and 5,000 evaluated after
    # each; 15,000 at the end.
    passes = 300 * (10_000 * 3 + 5_000) + 15_000
    assert work_of(trial("msdnet")).tmac == pytest.approx(passes * 192.69 / 1e6, rel=5e-3)


def test_a_step_of_gamma_in_every_second_step():
    plainly, learned = work_of(trial("naive_dkd")), work_of(trial("hdkd"))
    ratio = learned.mmac_per_image / plainly.mmac_per_image
    assert ratio == pytest.approx((3 + 8) / 2 / 3)


def test_what_a_run_does_not_compute_costs_nothing():
    rows = {row.title: row.trial for row in STUDIES["3"].rows(PAPER, no_settings)}
    assert step_cost(rows["from DS-like"]) == 3  # its γ stands still
    (half,) = [r.trial for r in STUDIES["levers"].rows(PAPER, no_settings) if "half" in r.title]
    assert step_cost(half) == 3 + (5 - 1.5) / 2


def test_a_step_of_algorithm_1():
    scale = SCALES["paper"]
    learned = plain(scale, scale.benches["cifar100"], 150, "hdkd", lambda method: scale.learned)
    assert step_cost(learned) == 11


def test_all_of_imagenet():
    images = 1_281_167 - 50_000
    passes = 90 * (images * 3 + 50_000) + 100_000
    found = work_of(trial("dbt", "full", "imagenet")).tmac
    assert found == pytest.approx(passes * 1360.5 / 1e6, rel=5e-3)


def test_the_measured_speed_is_that_of_finished_runs():
    one = trial("msdnet")
    found = tmac_per_second({one.name: record(one, [1.0] * 4)}, {one.name: one})
    assert found == pytest.approx(500 * 3 * 192.69 / 1e6, rel=5e-3)
    assert tmac_per_second({}, {}) is None
    assert SMALL.tuned


def test_precision_is_the_configurations():
    assert gpu_precision(trial("msdnet")) == "tf32"
    scale = SCALES["paper"]
    imagenet = plain(scale, scale.benches["imagenet"], "full", "msdnet", no_settings)
    assert gpu_precision(imagenet) == "bf16"
