"""Values of ``results.json``, from made-up outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from exits import COSTS, outputs

from hdkd_dist.evaluation.measures import (
    anytime_rows,
    best_of_networks,
    budgeted_results,
    calibration_errors,
    evaluate_outputs,
    latency_results,
)
from hdkd_dist.inference.latency import StageTimes
from hdkd_dist.inference.outputs import Outputs
from hdkd_dist.models import ExitCosts
from hdkd_dist.runs.results import Results
from hdkd_dist.runs.schema import first_fault

COST = ExitCosts(COSTS, [10, 20, 30, 40])


@pytest.fixture(scope="module")
def evaluation():
    return evaluate_outputs(COST, outputs(600, seed=0), outputs(900, seed=1))


def test_accuracy_per_exit_is_that_of_numpy(evaluation):
    made = outputs(900, seed=1)
    order = np.argsort(-made.logits.numpy(), axis=2)
    labels = made.labels.numpy()[None, :, None]
    rows = anytime_rows(evaluation)
    for k, row in enumerate(rows):
        assert row["top1"] == pytest.approx(100 * (order == labels)[k, :, 0].mean())
        assert row["top5"] == pytest.approx(100 * (order == labels)[k, :, :5].any(axis=1).mean())


def test_what_an_evaluation_adds_is_as_the_schema_states(evaluation):
    results = budgeted_results(evaluation)
    times = StageTimes([1, 8], np.array([[[0.001] * 4], [[0.004] * 4]]))
    timed = latency_results(results["budgeted"], times, torch.device("cpu"))
    found: Results = {"exits": anytime_rows(evaluation), **results, **timed}
    assert first_fault(found, Results) is None
    assert results["search"]["default"] == "direct"
    assert "budgeted_geometric" in results
    for row in timed["budgeted_ms"]:
        assert "budget_mmac" not in row
        expected = times.expected_ms(8, row["val_shares"])
        assert expected <= row["budget_ms"] + 1e-9  # in time, by validation


def test_calibration_helps_on_validation(evaluation):
    errors = calibration_errors(evaluation)["val"]
    assert np.mean(errors["calibrated"]) < np.mean(errors["max_probability"])


def test_the_best_network_is_chosen_by_validation_among_those_within_the_budget():
    def row(budget, validation, test):
        return {"budget_mmac": budget, "val_top1": validation, "top1": test}

    networks = {
        "small": [row(1.0, 50.0, 1.0), row(2.0, 55.0, 2.0)],
        "large": [row(2.0, 54.0, 9.0), row(5.0, 70.0, 3.0)],
    }
    best = best_of_networks(networks)
    assert [each["network"] for each in (best[0], best[-1])] == ["small", "large"]
    within = [each for each in best if 2.0 <= each["budget_mmac"] < 5.0 - 1e-6]
    assert {(each["network"], each["top1"]) for each in within} == {("small", 2.0)}


def test_outputs_that_are_not_finite_are_refused():
    made = outputs(50, seed=0)
    broken = Outputs(made.logits / 0, made.labels, made.indices)
    with pytest.raises(ValueError, match="outputs on the test split are not finite"):
        evaluate_outputs(COST, made, broken)
