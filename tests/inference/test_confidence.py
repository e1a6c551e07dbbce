"""Temperatures, and how far confidence is from accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exits import outputs
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

from hdkd_dist.inference.confidence import (
    Judged,
    fitted_temperatures,
    judge,
    ranking,
    rankings,
    reliability,
)


def test_temperature_is_the_best_of_a_fine_grid():
    made = outputs(500, seed=0)
    fitted = fitted_temperatures(made.logits, made.labels)
    grid = torch.linspace(0.5, 2, 1501)

    def loss(logits):  # one label in N + 2 is any class
        return cross_entropy(logits, made.labels, label_smoothing=1 / 502)

    for logits, temperature in zip(made.logits, fitted, strict=True):
        losses = torch.stack([loss(logits / t) for t in grid])
        assert float(temperature) == pytest.approx(float(grid[losses.argmin()]), abs=2e-3)


def test_temperature_undoes_a_scale():
    made = outputs(2000, seed=0)
    base = fitted_temperatures(made.logits, made.labels)
    torch.testing.assert_close(fitted_temperatures(40 * made.logits, made.labels), 40 * base)


@pytest.mark.parametrize("sign", [1, -1])
def test_separable_or_hopeless_outputs_have_a_finite_temperature(sign):
    labels = torch.arange(10).repeat(5)
    logits = sign * 7 * torch.eye(10)[labels][None]
    temperature = fitted_temperatures(logits, labels)
    assert temperature.isfinite().all()
    assert (temperature > 0).all()


def test_exit_that_is_always_right_keeps_confidences_apart():
    labels = torch.arange(10).repeat(20)
    generator = torch.Generator().manual_seed(0)
    logits = 7 * torch.eye(10)[labels] + torch.randn(200, 10, generator=generator)
    assert (logits.argmax(dim=1) == labels).all()
    temperature = fitted_temperatures(logits[None], labels)
    confidence = (logits / temperature).softmax(dim=1).amax(dim=1)
    assert confidence.unique().numel() > 150
    assert confidence.mean() == pytest.approx(1, abs=2 / 200)


def test_calibration_lowers_the_error_on_other_images():
    fitted = fitted_temperatures(*(getattr(outputs(4000, 0), n) for n in ("logits", "labels")))
    test = outputs(4000, 1)
    for temperatures, better in ((fitted, True), (fitted * 3, False)):
        judged = judge(test, temperatures, temperatures)
        raw = judge(test, fitted * 1.7, fitted)
        for k in range(4):
            own = reliability(judged.confidence[k], judged.top1[k]).error
            other = reliability(raw.confidence[k], raw.top1[k]).error
            assert (own < other) == better


def test_expected_calibration_error_bin_by_bin():
    generator = np.random.default_rng(0)
    confidence = generator.random(500).astype(np.float32)
    confidence[0], confidence[1] = 1.0, 0.0
    right = generator.random(500) < 0.5
    expected = 0.0
    for b in range(15):
        inside = (confidence >= b / 15) & ((confidence < (b + 1) / 15) | (b == 14))
        if inside.any():
            gap = abs(confidence[inside].mean() - right[inside].mean())
            expected += inside.mean() * gap
    found = reliability(torch.from_numpy(confidence), torch.from_numpy(right))
    assert found.error == pytest.approx(expected, abs=1e-6)
    assert float(found.share.sum()) == pytest.approx(1)


def test_ranking_is_the_share_of_pairs_in_order():
    generator = np.random.default_rng(0)
    confidence = generator.integers(0, 20, 150) / 20  # with ties
    right = generator.random(150) < confidence
    pairs = [(a > b) + (a == b) / 2 for a in confidence[right] for b in confidence[~right]]
    found = ranking(torch.from_numpy(confidence), torch.from_numpy(right))
    assert found == pytest.approx(np.mean(pairs))
    assert found == pytest.approx(roc_auc_score(right, confidence))


def test_no_gain_is_where_no_later_exit_mends_an_error():
    top1 = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]).bool()
    confidence = torch.tensor([[0.9, 0.8, 0.7, 0.75]] * 3)
    found = rankings(Judged(confidence, confidence, top1, top1))
    assert found["right"][0] == 1  # only the first is right, and most confident
    assert found["no_gain"][0] == 1  # the third and fourth are mended later
    assert found["no_gain"][1] == 1 / 4  # of four pairs, 0.8 above 0.75
    assert found["no_gain"][2] is None  # after the last exit nothing comes
