"""Settings: names that type checkers know are those of the tables; older sections still open."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from hdkd_dist.config.settings import MethodName, Optimizer, Settings, without_retired
from hdkd_dist.method.weights import METHODS, OPTIMIZERS

LEAST = {
    "model": {"preset": "msdnet-digits"},
    "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 64},
}


def test_names_for_type_checkers_are_those_of_the_tables():
    assert get_args(MethodName) == tuple(METHODS)
    assert get_args(Optimizer) == tuple(OPTIMIZERS)


@pytest.mark.parametrize(
    ("method", "init", "learns"),
    [("hdkd", "ds_like", True), ("hdkd", "fixed:runs/a", False), ("dbt", "ds_like", False)],
)
def test_gamma_learns_as_the_method_says_unless_it_is_fixed(method, init, learns):
    settings = Settings.model_validate({**LEAST, "method": method, "gamma": {"init": init}})
    assert settings.gamma_learns == learns


def test_an_older_section_opens_where_it_meant_the_same():
    older = {**LEAST, "gamma": {"solver": "jvp", "train_part": 1.0, "autocast": []}}
    assert Settings.model_validate(without_retired(older)).gamma.autocast is False
    other = {**LEAST, "gamma": {"solver": "second_order"}}
    with pytest.raises(ValidationError, match="solver"):
        Settings.model_validate(without_retired(other))
