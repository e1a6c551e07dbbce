"""How γ starts in a run."""

from __future__ import annotations

import json

import pytest
import torch

from hdkd_dist.config.settings import Settings
from hdkd_dist.training.gamma import configured_weights

EXITS = 3


def start(method, init, seed=0, **loss):
    settings = Settings.model_validate(
        {
            "method": method,
            "model": {"preset": "msdnet-digits"},
            "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 8},
            "loss": loss,
            "gamma": {"init": init},
            "run": {"seed": seed},
        }
    )
    return configured_weights(settings, EXITS, torch.device("cpu"))


def test_starts():
    assert start("hdkd", "ds_like").gamma.tolist() == [1, 1, 1, 1, 1, 1]
    assert start("hdkd", "dbt_like").gamma.tolist() == [1, 1, 1, 0, 1, 1]
    same_sum = start("hdkd", "random_same_sum", 1)
    assert float(same_sum.gamma.sum()) == pytest.approx(6)
    torch.testing.assert_close(
        same_sum.gamma / same_sum.gamma[0],
        (drawn := start("hdkd", "random", 1).gamma) / drawn[0],
    )
    assert not torch.equal(start("hdkd", "random", 1).gamma, start("hdkd", "random", 2).gamma)


def test_teachers_of_a_configuration_replace_those_of_the_method():
    assert start("hdkd", "ds_like", teachers="next").exists.tolist() == [1, 1, 1, 1, 0, 1]
    matrix = [[0, 0, 0], [0.5, 0, 0], [0, 2, 0]]
    weights = start("naive_dkd", "ds_like", teachers=matrix, kd_weight=3)
    assert weights.gamma.tolist() == [1, 1, 1, 1.5, 0, 6]
    assert not weights.learns


@pytest.mark.parametrize("init", ["random", "dbt_like", "fixed:somewhere"])
@pytest.mark.parametrize("method", ["msdnet", "naive_dkd"])
def test_fixed_methods_are_defined_by_their_weights(method, init):
    with pytest.raises(ValueError, match=f"{method} has fixed weights, which define it"):
        start(method, init)


def test_fixed_weights_of_a_run(tmp_path):
    kd = [[0, 0, 0], [0.25, 0, 0], [0, 0.75, 0]]
    (tmp_path / "results.json").write_text(json.dumps({"gamma": {"ce": [1, 2, 3], "kd": kd}}))
    weights = start("hdkd", f"fixed:{tmp_path}")
    assert weights.gamma.tolist() == [1, 2, 3, 0.25, 0, 0.75]
    assert weights.optimizer is None
    assert start("hdkd", f"fixed:{tmp_path / 'results.json'}").gamma.tolist()[2] == 3
    with pytest.raises(ValueError, match="has weights that hdbt has not"):
        start("hdbt", f"fixed:{tmp_path}")


@pytest.mark.parametrize("content", ["{}", "{", '{"gamma": {"ce": [1], "kd": [[0]]}}'])
def test_unusable_runs_are_refused(tmp_path, content):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"hdkd\.gamma\.init: .*results\.json"):
        start("hdkd", f"fixed:{file}")
