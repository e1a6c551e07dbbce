"""``results.json``: the one schema of what a finished run is worth, its reader and its writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypedDict, cast

from torch import Tensor

from hdkd_dist.files.replacing import replace_file
from hdkd_dist.files.strict_json import read_json_object, to_json
from hdkd_dist.models import ExitCosts
from hdkd_dist.models.accuracy import percentages
from hdkd_dist.runs.folder import RESULTS as FILE_NAME

# Accuracies are in percent: val_* on the validation split without augmentation, the others on the
# test split. Costs are in millions of multiply-adds (mmac) per image.


class ExitCost(TypedDict):
    """An exit's costs."""

    exit: int  # from 1
    mmac: float  # up to this exit
    params: int  # needed up to this exit


class ExitRow(ExitCost, total=False):
    """An exit, with its accuracies: on validation where there is such a split, on test if asked."""

    val_top1: float
    val_top5: float
    top1: float
    top5: float
    extra_top1: float  # on the split "extra", where the data set has one
    extra_top5: float


class PolicyRow(TypedDict):
    """An early-exit policy, its cost and accuracy; ``shares`` [K] leave at each exit."""

    thresholds: list[float]  # of the confidence, [K]
    mmac: float
    top1: float
    top5: float
    shares: list[float]
    val_mmac: float
    val_top1: float
    val_top5: float
    val_shares: list[float]


class BudgetRow(PolicyRow):
    """A policy for a budget of multiply-adds."""

    budget_mmac: float


class TimedRow(PolicyRow):
    """A policy for a budget of time."""

    budget_ms: float
    ms: float  # expected, per image
    batch_ms: dict[str, float]  # percentile → of the time for a whole batch


class NetworkRow(BudgetRow):
    """A policy of one of several networks."""

    network: str


class Gain(TypedDict):
    """Difference of two policies in percent, with the bounds of its 95 % interval."""

    budget_mmac: float
    difference: float
    low: float
    high: float


class SearchRecord(TypedDict):
    """Search of the thresholds of "budgeted", and its gain over each other search."""

    default: str
    gain: dict[str, list[Gain]]


class ConfidenceHistograms(TypedDict):
    """Distribution of each exit's confidences on all images of a split."""

    images: int
    histograms: list[list[float]]  # [K, 16], shares


class ConfidenceRecord(TypedDict):
    """Confidence that thresholds are compared with, and how well it is calibrated."""

    kind: str
    temperatures: list[float]  # [K], of that kind
    calibration_temperatures: list[float]  # [K], that calibrate
    ece: dict[str, dict[str, list[float]]]  # split → kind → [K]
    auroc: dict[str, dict[str, list[float | None]]]  # split → what is ranked → [K]
    validation: ConfidenceHistograms


class LatencyRecord(TypedDict):
    """Time of the stages on the machine that measured it."""

    batch: int
    device: str
    threads: int
    runtime: str
    ms_per_image: list[float]  # [K]
    batch_ms: list[dict[str, float]]  # [K], percentile → of the time until a whole batch has left


class PaperGamma(TypedDict):
    """Weights γ of the paper's losses; 0 where there is none."""

    ce: list[float]  # [K]
    kd: list[list[float]]  # [K, K], row teacher, column student


class GammaEntries(PaperGamma, total=False):
    """Loss weights γ."""

    terms: dict[str, float]  # of the losses that the configuration adds, by name


class GammaAtEnd(GammaEntries):
    """γ at the end and at the start."""

    initial: GammaEntries
    sum_ratio: float  # Σγ/Σγ₀


class GammaRecord(GammaAtEnd, total=False):
    """γ at the end, with the sha256 of each rank's bits, which show that the ranks agree."""

    rate: float | None  # ε; None: γ did not learn
    sha256_by_rank: list[str]


class TrainingSpeed(TypedDict):
    """Speed of a whole training, evaluation and set-up left out."""

    images_per_s: float
    wait_fraction: float  # share of time in which the next batch was not ready
    seconds: float


class TrainingRecord(TrainingSpeed):
    """Length and speed of a training."""

    steps: int


class DataRecord(TypedDict):
    """Content of the data, by split: its sha256, and when that was last compared (ISO 8601)."""

    sha256: dict[str, str]
    read_at: dict[str, str]


class WeightsRecord(TypedDict):
    """Content of the file of weights."""

    sha256: str


class Results(TypedDict, total=False):
    """Content of ``results.json``: train.py leaves the keys up to "train", evaluate.py adds."""

    method: str
    dataset: str
    data: DataRecord
    preset: str
    seed: int
    world_size: int
    hardware: dict[str, Any]  # the devices, their number and what they run
    exits: list[ExitRow]
    gamma: GammaRecord
    train: TrainingRecord
    weights: WeightsRecord
    ema_decay: float  # only where the weights' average was evaluated and saved, not the last ones
    budgeted: list[BudgetRow]  # rising budgets; "search" tells how the thresholds were found
    budgeted_direct: list[BudgetRow]  # by the other search
    budgeted_geometric: list[BudgetRow]
    search: SearchRecord
    confidence: ConfidenceRecord
    latency: LatencyRecord
    budgeted_ms: list[TimedRow]


def exit_rows(
    costs: ExitCosts, validation: Tensor | None, test: Tensor | None, extra: Tensor | None = None
) -> list[ExitRow]:
    """Make one row per exit: cost, and accuracy in percent.

    Args:
        costs: of the network.
        validation: counts of :func:`count_correct` on the validation split; None where there is
            none.
        test: the same on the test split; None if it was not evaluated.
        extra: the same on the extra split; None where there is none.
    """
    columns: dict[str, Sequence[float]] = {
        "exit": range(1, len(costs.mmac) + 1),
        "mmac": costs.mmac,
        "params": costs.params,
    }
    if validation is not None:
        columns["val_top1"], columns["val_top5"] = percentages(validation)
    if test is not None:
        columns["top1"], columns["top5"] = percentages(test)
    if extra is not None:
        columns["extra_top1"], columns["extra_top5"] = percentages(extra)
    rows = zip(*columns.values(), strict=True)
    return [cast(ExitRow, dict(zip(columns, row, strict=True))) for row in rows]


def read_results(folder: Path) -> Results:
    """Read a run's results; empty if there are none yet.

    Raises:
        ValueError: if the file is damaged.
    """
    file = folder / FILE_NAME
    if not file.exists():
        return {}
    try:
        results = read_json_object(file)
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"{file} is damaged ({detail}): move it away and run hdkd_dist/evaluate.py again"
        ) from None
    return cast(Results, results)


def update_results(folder: Path, values: Results) -> Results:
    """Add to a run's results, keeping what is there; the file is replaced as a whole."""
    results: Results = {**read_results(folder), **values}
    replace_file(folder / FILE_NAME, to_json(results, indent=1) + "\n")
    return results


EXIT_COLUMNS = {
    "exit": "exit",
    "mmac": "MMAC",
    "params": "parameters",
    "val_top1": "val top-1",
    "val_top5": "val top-5",
    "top1": "test top-1",
    "top5": "test top-5",
    "extra_top1": "extra top-1",
    "extra_top5": "extra top-5",
}
BUDGET_COLUMNS = {
    "budget_mmac": "budget MMAC",
    "network": "network",
    "mmac": "test MMAC",
    "val_top1": "val top-1",
    "top1": "test top-1",
    "top5": "test top-5",
}


def table(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str] = EXIT_COLUMNS) -> str:
    """Write the per-exit table for the console; of ``titles`` the columns that there are."""
    shown = {name: title for name, title in titles.items() if name in rows[0]}
    lines = [list(shown.values())]
    for row in rows:
        lines.append([_cell(row[name]) for name in shown])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def budget_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the table of budgets with thresholds for the console; networks may differ in exits."""
    names = [f"t{k}" for k in range(1, max(len(row["thresholds"]) for row in rows))]
    lines = []
    for row in rows:
        shown = map(_threshold, row["thresholds"][:-1])
        lines.append({**row, **dict(zip_longest(names, shown, fillvalue=""))})
    return table(lines, {**BUDGET_COLUMNS, **dict(zip(names, names, strict=True))})


def _threshold(value: float) -> str:
    return "-" if value > 1 else f"{value:.3f}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return value if isinstance(value, str) else f"{value:,}"
