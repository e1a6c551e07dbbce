"""Charts of what evaluate.py has measured, and means over runs that differ in their seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean, stdev
from typing import Any, cast

import plotly.graph_objects as go

from hdkd_dist.reporting.comparison import DISTINCT, laid_out, lines, to_five_digits
from hdkd_dist.reporting.runs import RecordedRun
from hdkd_dist.runs import names

KINDS = {"max_probability": "largest probability", "calibrated": "calibrated"}
SEEDS = ("hdkd.run.seed", "hdkd.run.out")  # in which the runs of a mean may differ


def evaluation_charts(runs: Sequence[RecordedRun]) -> Iterable[tuple[str, go.Figure | None]]:
    """Draw what evaluate.py has measured; yields title and chart."""
    yield "Accuracy under a budget (early exit)", budget_curves(runs)
    yield "Calibration: error of the confidences on test", calibration(runs)


def budget_curves(runs: Sequence[RecordedRun]) -> go.Figure | None:
    """Draw test accuracy against the mean cost of an image, a line per evaluated run."""
    shown = [run for run in runs if run.budgeted]
    if not shown:
        return None
    figure = go.Figure()
    for run, line in zip(shown, lines(runs, shown), strict=True):
        figure.add_scatter(
            x=[to_five_digits(row["mmac"]) for row in run.budgeted],
            y=[to_five_digits(row["top1"]) for row in run.budgeted],
            **line,
            mode="lines",
            hovertemplate=f"{escape(run.name, quote=False)}<br>%{{y:.2f}} % at %{{x:.4~g}} MMAC"
            "<extra></extra>",
        )
    figure.update_xaxes(title_text="multiply-adds per image (millions)")
    figure.update_yaxes(title_text="test top-1, %")
    return laid_out(figure, height=380)


def calibration(runs: Sequence[RecordedRun]) -> go.Figure | None:
    """Draw each exit's expected calibration error, before and after temperature scaling.

    Bars of several runs are their means.
    """
    found = [run.calibration_errors for run in runs if run.calibration_errors]
    errors = [cast(dict[str, list[float]], each) for each in found]
    exits = {len(each["calibrated"]) for each in errors}
    if len(exits) != 1:  # none, or networks whose exits cannot be compared
        return None
    figure = go.Figure()
    for (kind, title), color in zip(KINDS.items(), DISTINCT[1::-1], strict=True):
        per_exit = [100 * fmean(each) for each in zip(*(e[kind] for e in errors), strict=True)]
        figure.add_bar(
            x=[f"exit {k + 1}" for k in range(len(per_exit))],
            y=[to_five_digits(value) for value in per_exit],
            name=title,
            marker={"color": color},
            hovertemplate=f"{title}, %{{x}}: %{{y:.2f}} %<extra></extra>",
        )
    figure.update_yaxes(title_text="calibration error, %", rangemode="tozero")
    return laid_out(figure, height=300)


@dataclass(frozen=True)
class MeanOverSeeds:
    """Accuracy of finished runs that differ in their seed alone.

    Attributes:
        title: the method's.
        setting: what else tells the group apart from others of the method; empty if nothing.
        runs: how many.
        split: "test", or "validation" where the test split was not read.
        mean: top-1 in percent, [K].
        deviation: standard deviation over the runs, [K].
    """

    title: str
    setting: str
    runs: int
    split: str
    mean: list[float]
    deviation: list[float]


def means_over_seeds(runs: Sequence[RecordedRun]) -> list[MeanOverSeeds]:
    """Average the finished runs of each configuration; groups of one seed are left out.

    Args:
        runs: of the same network on the same data; of those that repeat a seed one counts.
    """
    groups: dict[str, dict[Any, RecordedRun]] = {}
    for run in runs:
        if run.finished:
            seed = names.flatten(run.config).get("hdkd.run.seed")
            key = repr(sorted(settings_but_seed(run).items()))
            groups.setdefault(key, {}).setdefault(seed, run)
    repeated = [list(group.values()) for group in groups.values() if len(group) > 1]
    varying = differing([settings_but_seed(group[0]) for group in repeated])
    return [mean_of(group, varying) for group in repeated]


def settings_but_seed(run: RecordedRun) -> dict[str, Any]:
    """Flatten a run's configuration and leave out what tells seeds apart."""
    flat = names.flatten(run.config)
    return {key: value for key, value in flat.items() if key not in SEEDS}


def differing(configurations: Sequence[dict[str, Any]]) -> list[str]:
    """List the settings, besides the method, that are not equal in all configurations."""
    keys = {key: None for each in configurations for key in each if key != "hdkd.method"}
    return [key for key in keys if len({repr(each.get(key)) for each in configurations}) > 1]


def mean_of(group: Sequence[RecordedRun], varying: Sequence[str]) -> MeanOverSeeds:
    """Average one group's accuracies per exit."""
    split = "test" if all(run.test for run in group) else "validation"
    accuracies = [run.test if split == "test" else run.validation for run in group]
    columns = list(zip(*accuracies, strict=True))
    config = settings_but_seed(group[0])
    return MeanOverSeeds(
        title=group[0].title,
        setting=", ".join(f"{key} {names.plain(config.get(key))}" for key in varying),
        runs=len(group),
        split=split,
        mean=[fmean(column) for column in columns],
        deviation=[stdev(column) for column in columns],
    )
