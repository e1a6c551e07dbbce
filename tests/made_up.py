"""Finished runs with chosen accuracies, and a scale of which there are few."""

from __future__ import annotations

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.records import Record, to_values
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES
from hdkd_dist.paper.trials import Trial

SMALL = SCALES["small"]
EXITS = 4


def no_settings(method: str) -> dict[str, object]:
    return {}


def record(
    trial: Trial,
    top1: list[float],
    budgeted: list[float] | None = None,
    extra: list[float] | None = None,
) -> Record:
    """A run with these test accuracies; on validation all are one point better.

    Top-5 is 20 points above top-1. ``extra``: top-1 on the split ``extra``.
    """
    exits = [{"exit": k, **accuracies(a)} for k, a in enumerate(top1, start=1)]
    for row, a in zip(exits, extra or (), strict=bool(extra)):
        row |= {"extra_top1": a, "extra_top5": a + 20}
    kd = [[0.25 * (j < i) for j in range(EXITS)] for i in range(EXITS)]
    tree = {
        "exits": exits,
        "gamma": {"ce": [1.5] * EXITS, "kd": kd},
        "train": {"steps": 100, "seconds": 60.0, "median_images_per_s": 500.0},
    }
    if budgeted:
        costs = enumerate(budgeted, start=1)
        tree["budgeted"] = [{"mmac": 1.0 * i, **accuracies(a)} for i, a in costs]
    place = {key: str(getattr(trial, key)) for key in ("method", "size", "variant", "seed")}
    curve = [{"step": 10, "gamma_sum_ratio": 1.2, "gamma/ce_1": 1.1}]
    return Record(trial.name, trial.identity, place, to_values(tree), curve)


def accuracies(top1: float) -> dict[str, float]:
    return {"val_top1": top1 + 1, "val_top5": top1 + 21, "top1": top1, "top5": top1 + 20}


def learned(scale):
    """The settings of a scale, or those of the configuration where they are chosen first."""
    return lambda method: SCALES[scale].learned if METHODS[method].learns else {}


def rows_of(study, scale):
    return list(STUDIES[study].rows(SCALES[scale], learned(scale)))
