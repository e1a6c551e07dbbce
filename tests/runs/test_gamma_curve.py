"""Another run's Σγ/Σγ₀, replayed."""

from __future__ import annotations

import json

import pytest
import torch
from recorded_run import record_run, settings

from hdkd_dist.config.settings import Settings
from hdkd_dist.runs.gamma_curve import SumCurve, read_sum_curve
from hdkd_dist.training.gamma import configured_weights


def start(method, folder):
    given = {
        "method": method,
        "model": {"preset": "msdnet-digits"},
        "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 8},
        "gamma": {"replay_sum": str(folder)},
    }
    return configured_weights(Settings.model_validate(given), 3, 20, torch.device("cpu"))


def test_linear_between_records_and_constant_behind_the_last():
    curve = SumCurve([0, 10, 20], [1.0, 2.0, 1.5])
    assert [curve.at(step) for step in (0, 5, 10, 15, 20, 99)] == [1, 1.5, 2, 1.75, 1.5, 1.5]
    assert curve.mean == pytest.approx((1.5 * 10 + 1.75 * 10) / 20)


def test_the_size_of_another_run_and_the_proportions_of_the_method(tmp_path):
    folder = record_run(tmp_path / "run", settings("hdkd"))
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    recorded = {e["step"]: e["gamma_sum_ratio"] for e in events if e["event"] == "step"}
    weights = start("naive_dkd", folder)
    assert weights.optimizer is None
    for step, ratio in recorded.items():
        weights.follow(step)
        torch.testing.assert_close(weights.gamma, ratio * weights.initial)
        assert float(weights.sum_ratio) == pytest.approx(ratio, rel=1e-5)
    weights.follow(0)
    torch.testing.assert_close(weights.gamma, weights.initial)


def test_a_method_without_a_replay_keeps_its_weights():
    weights = configured_weights(settings("naive_dkd"), 3, 20, torch.device("cpu"))
    weights.follow(7)
    torch.testing.assert_close(weights.gamma, weights.initial)


def test_learned_weights_do_not_follow(tmp_path):
    with pytest.raises(ValueError, match=r"replay_sum is .* but hdkd learns γ"):
        start("hdkd", tmp_path)


@pytest.mark.parametrize("content", [None, "", '{"event": "epoch", "step": 3}\n'])
def test_a_folder_without_a_curve_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(ValueError, match=r"hdkd\.gamma\.replay_sum: .*name the folder"):
        read_sum_curve(tmp_path)
