"""The charts of a report that compare runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from hdkd_dist.method.weights import METHODS
from hdkd_dist.reporting.drawing import (
    DISTINCT,
    add_curve,
    exit_members,
    laid_out,
    rounded,
    thinned,
)
from hdkd_dist.reporting.runs import Event, Run
from hdkd_dist.training import names

LEGEND_RUNS = 12  # with more, the legend names methods
COLUMNS = 5  # small charts side by side at most
POINTS = 10_000  # per quantity and page, so that the page stays small


def figures_of(runs: Sequence[Run], points: int) -> Iterable[tuple[str, go.Figure | None]]:
    """The charts that compare runs, with their titles."""
    yield "Validation accuracy per exit", per_exit_over_epochs(runs, points)
    yield "Cross-entropy per exit, training", per_exit_losses(runs, points)
    yield "Accuracy against cost", accuracy_against_cost(runs)
    yield "Size of the loss weights: Σγ/Σγ₀", weight_sums(runs, points)


def points_per_run(runs: Sequence[Run]) -> int:
    """How many records of each run are drawn."""
    return max(100, min(500, POINTS // len(runs)))


def per_exit_over_epochs(runs: Sequence[Run], points: int) -> go.Figure | None:
    """Validation accuracy: a chart per exit, a line per run."""
    return small_charts(
        runs,
        points,
        names.VAL_TOP1,
        lambda run: run.epochs,
        lambda e: e["epoch"] + 1,
        "epoch",
        "top-1, %",
    )


def per_exit_losses(runs: Sequence[Run], points: int) -> go.Figure | None:
    """The cross-entropies: a chart per exit, a line per run."""
    return small_charts(
        runs,
        points,
        names.LOSS,
        lambda run: run.steps,
        lambda e: e["step"],
        "step",
        "cross-entropy",
    )


def small_charts(
    runs: Sequence[Run],
    points: int,
    group: str,
    events_of: Callable[[Run], Sequence[Event]],
    place: Callable[[Event], float],
    x_title: str,
    y_title: str,
) -> go.Figure | None:
    """A chart per exit; runs have a line in those that they know. None without any record."""
    shown = [run for run in runs if events_of(run)]
    members = {run.name: exit_members(group, events_of(run)[0]) for run in shown}
    exits = max(map(len, members.values()), default=0)
    if not exits:
        return None
    rows = math.ceil(exits / COLUMNS)
    columns = math.ceil(exits / rows)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[f"exit {k + 1}" for k in range(exits)],
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.025,
        vertical_spacing=0.26 / rows,
    )
    for run, line in zip(shown, lines(runs, shown), strict=True):
        events = thinned(events_of(run), points)
        for k, name in enumerate(members[run.name]):
            values = [rounded(event.get(name)) for event in events]
            figure.add_scatter(
                x=[place(event) for event in events],
                y=values,
                **{**line, "showlegend": line["showlegend"] and k == 0},
                mode="lines" if len(events) > 1 else "markers",
                hovertemplate=f"{escape(run.name, quote=False)}<br>{x_title} %{{x}}: "
                "%{y:.4~g}<extra></extra>",
                row=k // columns + 1,
                col=k % columns + 1,
            )
    figure.update_yaxes(title_text=y_title, col=1)
    for k in range(max(0, exits - columns), exits):
        place_below = {"row": k // columns + 1, "col": k % columns + 1}
        figure.update_xaxes(title_text=x_title, showticklabels=True, **place_below)
    return laid_out(figure, height=70 + 210 * rows)


def lines(runs: Sequence[Run], shown: Sequence[Run]) -> list[dict[str, Any]]:
    """Name, colour and legend of each shown run's line; the same in all charts of a page.

    Methods have colours of their own; of a single method, the runs have. The legend names runs, or
    methods where it would get long.
    """
    several = len({run.method for run in runs}) > 1
    methods = list(METHODS)
    styles, named = [], set()
    for run in shown:
        if several and run.method in methods:
            place = methods.index(run.method)
        else:
            place = runs.index(run) if not several else len(methods)
        label = run.name if len(runs) <= LEGEND_RUNS else run.title
        styles.append(
            {
                "name": escape(label, quote=False),
                "legendgroup": label,
                "showlegend": label not in named,
                "line": {"color": DISTINCT[place % len(DISTINCT)], "width": 1.6},
            }
        )
        named.add(label)
    return styles


def accuracy_against_cost(runs: Sequence[Run]) -> go.Figure | None:
    """Accuracy of each exit against its multiply-adds, of finished runs."""
    shown = [run for run in runs if run.mmac]
    if not shown:
        return None
    figure = go.Figure()
    for run, line in zip(shown, lines(runs, shown), strict=True):
        split, accuracy = ("test", run.test) if run.test else ("validation", run.validation)
        figure.add_scatter(
            x=run.mmac,
            y=accuracy,
            **line,
            mode="lines+markers",
            customdata=[f"exit {k + 1}, {split}" for k in range(len(accuracy))],
            hovertemplate=f"{escape(run.name, quote=False)}<br>%{{customdata}}: %{{y:.2f}} % at "
            "%{x:.4~g} MMAC<extra></extra>",
        )
    figure.update_xaxes(title_text="multiply-adds per image (millions)")
    figure.update_yaxes(title_text="top-1, %")
    return laid_out(figure, height=380)


def weight_sums(runs: Sequence[Run], points: int) -> go.Figure | None:
    """Σγ/Σγ₀ of the runs that learn γ."""
    shown = [run for run in runs if run.learns]
    if not shown:
        return None
    figure = go.Figure()
    for run, line in zip(shown, lines(runs, shown), strict=True):
        add_curve(figure, thinned(run.steps, points), names.GAMMA_SUM, line)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="Σγ/Σγ₀")
    return laid_out(figure, height=380)
