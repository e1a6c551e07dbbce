"""What a study will be able to decide."""

from __future__ import annotations

import re

import pytest
from judged_runs import compared
from scipy.stats import t as student

from hdkd_dist.paper.judging.comparisons import PRIOR_NOISE, Claim
from hdkd_dist.paper.judging.power import half_width, power_lines
from hdkd_dist.paper.judging.statistics import LOOK_LEVEL, Noise


def test_half_widths_are_those_of_the_design():
    # 0.58 · 2.0 · √(2/8) and the like; t(0.975, 41) = 2.01954.
    for quantity, width in (("exit 1", 0.586), ("all exits", 0.717), ("last exit", 0.889)):
        one = compared("dbt", "msdnet", quantity=quantity)
        assert half_width(one, 8, PRIOR_NOISE[quantity]) == pytest.approx(width, abs=1e-3)
    wider = half_width(one, 8, PRIOR_NOISE["last exit"], LOOK_LEVEL)
    assert wider / 0.889 == pytest.approx(student.ppf(0.9909, 41) / 2.01954, rel=1e-3)
    assert half_width(one, 2, Noise(1.0, 41)) == pytest.approx(2.01954, abs=1e-4)
    assert half_width(one, 8, None) is None


def test_the_plan_says_what_it_can_decide():
    claim = Claim(
        "",
        [
            compared("dbt", "msdnet", 6.48),
            compared("hdbt", "msdnet", 0.32),
            compared("hdkd", "msdnet", None),
            compared("impr", "msdnet", None, "within ±1"),
            compared("impr", "msdnet", None, quantity="low budgets"),
        ],
    )
    lines = list(power_lines([claim], {"all exits": Noise(0.6, 28)}, 8))
    width = student.ppf(0.975, 28) * 0.6 * 0.5
    assert lines[0] == f"dbt − msdnet, all exits, ± {width:.2f}, the paper has 6.48"
    assert lines[1].endswith("the paper has 0.32, cannot be decided with 8 seeds")
    assert lines[2] == f"hdkd − msdnet, all exits, ± {width:.2f}"
    assert lines[3].endswith("the margin is 1.00")
    assert lines[4] == "impr − msdnet, low budgets, width not known"
    (prior,) = power_lines([Claim("", [compared("dbt", "msdnet", 6.48)])], {}, 8)
    assert "± 0.72 (by the noise of an earlier study)" in prior


def test_a_study_that_can_decide_nothing_is_refused():
    hopeless = [Claim("", [compared("hdbt", "msdnet", 0.32), compared("hdkd", "hdbt", 0.6)])]
    nearest = re.escape("(the nearest: hdkd − hdbt, all exits, ± 1.01")
    with pytest.raises(ValueError, match=f"4 seeds can decide none .* {nearest}"):
        power_lines(hopeless, {}, 4)
    assert list(power_lines([], {}, 4)) == []
    assert len(list(power_lines(hopeless, {"all exits": Noise(0.2, 28)}, 4))) == 2
