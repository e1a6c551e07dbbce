"""Measure a trained network by its outputs on two splits: the values of ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from hdkd_dist.evaluation.thresholds import (
    DEFAULT_SEARCH,
    SEARCHES,
    budget_rows,
    budgets_between,
    paired_gains,
)
from hdkd_dist.inference.confidence import (
    CONFIDENCES,
    Judged,
    fitted_temperatures,
    judge,
    rankings,
    reliability,
)
from hdkd_dist.inference.latency import StageTimes
from hdkd_dist.inference.outputs import Outputs
from hdkd_dist.inference.scoring import histogram
from hdkd_dist.models import ExitCosts
from hdkd_dist.models.accuracy import count_correct
from hdkd_dist.runs.results import BudgetRow, ExitRow, NetworkRow, Results, TimedRow, exit_rows

COMPARED = slice(2, None, 4)  # ten of the 41 budgets


@dataclass(frozen=True)
class Evaluation:
    """A network's outputs as exit policies see them.

    Attributes:
        costs: per exit.
        outputs: of the validation, the test, and perhaps the extra split.
        kind: of the confidence, a key of ``CONFIDENCES``.
        temperatures: [K], of that kind.
        fitted: [K], that calibrate.
        validation: finds thresholds.
        test: measures them.
    """

    costs: ExitCosts
    outputs: dict[str, Outputs]
    kind: str
    temperatures: Tensor
    fitted: Tensor
    validation: Judged
    test: Judged


def evaluate_outputs(
    costs: ExitCosts,
    validation: Outputs,
    test: Outputs,
    extra: Outputs | None = None,
    kind: str = "calibrated",
) -> Evaluation:
    """Fit the temperatures on validation and judge validation and test.

    Args:
        costs: of the network.
        validation: its outputs on that split.
        test: the same.
        extra: the same on a second test split, for its accuracy alone; None where there is none.
        kind: of the confidence, a key of ``CONFIDENCES``.

    Raises:
        ValueError: for outputs that are not finite.
    """
    outputs = {"val": validation, "test": test, **({"extra": extra} if extra else {})}
    for name, each in outputs.items():
        if not each.logits.isfinite().all():
            raise ValueError(
                f"the network's outputs on the {name} split are not finite: train it again"
            )
    fitted = fitted_temperatures(validation.logits, validation.labels)
    temperatures = CONFIDENCES[kind](validation.logits, validation.labels)
    return Evaluation(
        costs=costs,
        outputs=outputs,
        kind=kind,
        temperatures=temperatures,
        fitted=fitted,
        validation=judge(validation, temperatures, fitted),
        test=judge(test, temperatures, fitted),
    )


def anytime_rows(evaluation: Evaluation) -> list[ExitRow]:
    """Make one row per exit: cost and accuracy."""
    counts = [
        count_correct(lambda logits: logits, [(each.logits, each.labels)], len(each.logits))
        for each in evaluation.outputs.values()
    ]
    return exit_rows(evaluation.costs, *counts)


def calibration_errors(evaluation: Evaluation) -> dict[str, dict[str, list[float]]]:
    """Compute the expected calibration error per split, kind of confidence and exit."""
    temperatures = {
        "max_probability": torch.ones_like(evaluation.fitted),
        "calibrated": evaluation.fitted,
    }
    errors: dict[str, dict[str, list[float]]] = {}
    for split, outputs in evaluation.outputs.items():
        errors[split] = {}
        for kind, values in temperatures.items():
            judged = judge(outputs, values, values)
            pairs = zip(judged.confidence, judged.top1, strict=True)
            errors[split][kind] = [reliability(*pair).error for pair in pairs]
    return errors


def budgeted_results(evaluation: Evaluation, search: str = DEFAULT_SEARCH) -> Results:
    """Compute the keys of ``results.json`` about budgets in multiply-adds, and confidence.

    ``search``, a key of ``SEARCHES``, fills the table "budgeted", which early exit goes by.
    """
    mmac = evaluation.costs.mmac
    budgets = budgets_between(mmac)
    by_search = {
        name: budget_rows(evaluation.validation, evaluation.test, mmac, budgets, search=name)
        for name in SEARCHES
    }
    ours = by_search.pop(search)
    return {
        "budgeted": ours,
        **cast(Results, {f"budgeted_{name}": rows for name, rows in by_search.items()}),
        "search": {
            "default": search,
            "gain": {
                name: paired_gains(evaluation.test, ours[COMPARED], rows[COMPARED])
                for name, rows in by_search.items()
            },
        },
        "confidence": {
            "kind": evaluation.kind,
            "temperatures": evaluation.temperatures.tolist(),
            "calibration_temperatures": evaluation.fitted.tolist(),
            "ece": calibration_errors(evaluation),
            "auroc": {
                "val": rankings(evaluation.validation),
                "test": rankings(evaluation.test),
            },
            "validation": {
                "images": evaluation.validation.confidence.shape[1],
                "histograms": histogram(evaluation.validation.confidence).tolist(),
            },
        },
    }


def latency_results(rows: Sequence[BudgetRow], times: StageTimes, device: torch.device) -> Results:
    """Compute the keys of ``results.json`` about time, for the largest batch measured.

    Args:
        rows: the table of budgets in multiply-adds; of its policies the most expensive one that is
            expected to be in time is taken, as ``predict.py`` does.
        times: of the stages.
        device: on which they were measured.
    """
    batch = times.sizes[-1]
    expected = [times.expected_ms(batch, row["val_shares"]) for row in rows]
    timed: list[TimedRow] = []
    for budget in budgets_between([min(expected), max(expected)])[COMPARED].tolist():
        row = times.affordable(rows, batch, budget)[-1]
        ms = {
            "budget_ms": budget,
            "ms": times.expected_ms(batch, row["shares"]),
            "batch_ms": times.policy_percentiles_ms(batch, row["shares"]),
        }
        policy = {name: value for name, value in row.items() if name != "budget_mmac"}
        timed.append(cast(TimedRow, {**ms, **policy}))
    return {
        "latency": {
            "batch": batch,
            "device": str(device),
            "threads": torch.get_num_threads(),
            "runtime": "torch",
            "ms_per_image": times.ms_per_image(batch),
            "batch_ms": times.batch_percentiles_ms(batch),
        },
        "budgeted_ms": timed,
    }


def best_of_networks(
    networks: Mapping[str, Sequence[BudgetRow]],
    by: Literal["val_top1", "val_top5"] = "val_top1",
) -> list[NetworkRow]:
    """Choose for each budget the network and policy that validation finds best.

    Args:
        networks: name → rows of its budgeted table.
        by: the column of which the largest is best.

    Returns:
        rows of those tables, with ``network``; their test accuracy is the paper's curve.
    """
    rows: list[NetworkRow] = [
        {**row, "network": name} for name, table in networks.items() for row in table
    ]
    budgets = [row["budget_mmac"] for row in rows]
    best: list[NetworkRow] = []
    for budget in budgets_between([min(budgets), max(budgets)]).tolist():
        affordable = [row for row in rows if row["budget_mmac"] <= budget * (1 + 1e-9)]
        chosen = max(affordable, key=lambda row: row[by])
        best.append({**chosen, "budget_mmac": budget})
    return best
