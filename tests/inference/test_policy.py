"""Which thresholds a request gets."""

from __future__ import annotations

import numpy as np
import pytest

from hdkd_dist.inference import policy
from hdkd_dist.inference.exported import Exported
from hdkd_dist.inference.latency import StageTimes
from hdkd_dist.inference.preprocessing import Preprocessing

ROWS = [
    {"budget_mmac": budget, "thresholds": [budget, 0.0], "val_shares": [share, 1 - share]}
    for budget, share in ((1.0, 1.0), (2.0, 0.5), (3.0, 0.0))
]
TIMES = StageTimes([1, 10], np.array([[[1.0, 2.0]], [[4.0, 11.0]]]))


@pytest.fixture
def exported(tmp_path) -> Exported:
    return Exported(
        folder=tmp_path,
        model={"preset": "made up"},
        classes=["a", "b"],
        preprocessing=Preprocessing(8, 1.0, None, [0.5] * 3, [0.5] * 3),
        temperatures=[1.0, 1.0],
        exits=[{"mmac": 1.004}, {"mmac": 3.0}],
        budgets=ROWS,
        validation={},
        sha256={},
    )


@pytest.mark.parametrize(
    ("budget", "row"), [(1.0, 0), (1.004, 0), (1.999, 0), (2.0, 1), (2.5, 1), (3.0, 2), (3.004, 2)]
)
def test_the_largest_budget_that_is_not_above_with_costs_as_printed(exported, budget, row):
    assert policy.for_budget(exported, budget) == ROWS[row]["thresholds"]


@pytest.mark.parametrize(
    ("budget", "said"), [(0.9, "below what the first"), (3.1, "above what the last")]
)
def test_budgets_out_of_reach_are_refused(exported, budget, said):
    with pytest.raises(ValueError, match=said):
        policy.for_budget(exported, budget)


@pytest.mark.parametrize(
    ("batch", "deadline_ms", "row"),
    [
        (10, 400, 0),  # 4 s for ten
        (10, 4000, 2),
        (10, 1001, 1),  # 4 s, and five of them 6 s
        (1, 2001, 1),  # 1 s, and half of the time 2 s
    ],
)
def test_the_dearest_policy_that_is_in_time(exported, batch, deadline_ms, row):
    assert policy.for_deadline(exported, deadline_ms, TIMES, batch) == ROWS[row]["thresholds"]


def test_a_deadline_before_the_first_exit_is_refused(exported):
    with pytest.raises(ValueError, match="399 ms per image are not enough for the first exit"):
        policy.for_deadline(exported, 399, TIMES, 10)


def test_exits_by_number(exported):
    assert policy.for_exit(exported, 1) == [0.0, 0.0]
    assert policy.for_exit(exported, 2) == [policy.NOBODY, 0.0]
    for number in (0, 3, 1.5):
        with pytest.raises(ValueError, match=f"there is no exit {number}"):
            policy.for_exit(exported, number)
