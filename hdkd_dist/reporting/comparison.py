"""Charts of a report: those that compare runs, and those of one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from hdkd_dist.method.weights import METHODS
from hdkd_dist.reporting.runs import Event, RecordedRun
from hdkd_dist.runs import names

DISTINCT = ("#4e79a7", "#f28e2b", "#59a14f", "#9c755f", "#b07aa1", "#2aa5a0", "#e15759", "#d37295")
LINE = "%{fullData.name}<br>%{x}: %{y:.4~g}<extra></extra>"


def thinned(events: Sequence[Event], limit: int) -> list[Event]:
    """Choose records evenly, the last among them; all if there are few."""
    stride = math.ceil(len(events) / limit) if events else 1
    return list(events[::-1][::stride][::-1])


def add_curve(figure: go.Figure, events: Sequence[Event], name: str, line: dict[str, Any]) -> None:
    """Add a value over the steps; records that lack it are left out."""
    known = [event for event in events if name in event]
    figure.add_scatter(
        x=[event["step"] for event in known],
        y=[to_five_digits(event[name]) for event in known],
        mode="lines" if len(known) > 1 else "markers",
        hovertemplate=LINE,
        **line,
    )


def over_steps(figure: go.Figure, height: int = 340) -> go.Figure | None:
    """Lay the figure out with steps below; None if it is empty."""
    if not figure.data:
        return None
    figure.update_xaxes(title_text="step")
    return laid_out(figure, height=height)


def laid_out(figure: go.Figure, height: int) -> go.Figure:
    """Lay out without plotly's own template, whose colours are for white paper.

    The figure fills its place on the page, ``meta.height`` pixels high at least.
    """
    figure.update_layout(
        template={},
        meta={"height": height},
        margin={"l": 60, "r": 10, "t": 30, "b": 45},
        legend={"font": {"size": 11}, "tracegroupgap": 0},
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    return figure


def to_five_digits(value: float | None, minus: float = 0.0) -> float | None:
    """Round to five digits: more cannot be seen, and would double the page."""
    return None if value is None else float(f"{value - minus:.5g}")


def exit_members(group: str, event: Event) -> list[str]:
    """List the group's names that belong to one exit alone, from the first exit to the last."""
    found = [name for name in names.members(group, event) if "_to_" not in name]
    return sorted(found, key=names.exit_number)


LEGEND_RUNS = 12  # with more, the legend names methods
COLUMNS = 5  # small charts side by side at most
POINTS = 10_000  # per quantity and page, so that the page stays small


def figures_of(runs: Sequence[RecordedRun], points: int) -> Iterable[tuple[str, go.Figure | None]]:
    """Draw the charts that compare runs; yields title and chart."""
    yield "Validation accuracy per exit", per_exit_over_epochs(runs, points)
    yield "Cross-entropy per exit, training", per_exit_losses(runs, points)
    yield "Accuracy against cost", accuracy_against_cost(runs)
    yield "Size of the loss weights: Σγ/Σγ₀", weight_sums(runs, points)


def points_per_run(runs: Sequence[RecordedRun]) -> int:
    """Choose how many records of each run are drawn."""
    return max(100, min(500, POINTS // len(runs)))


def per_exit_over_epochs(runs: Sequence[RecordedRun], points: int) -> go.Figure | None:
    """Draw validation accuracy: a chart per exit, a line per run."""
    return small_charts(
        runs,
        points,
        names.VAL_TOP1,
        lambda run: run.epochs,
        lambda e: e["epoch"] + 1,
        "epoch",
        "top-1, %",
    )


def per_exit_losses(runs: Sequence[RecordedRun], points: int) -> go.Figure | None:
    """Draw the cross-entropies: a chart per exit, a line per run."""
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
    runs: Sequence[RecordedRun],
    points: int,
    group: str,
    events_of: Callable[[RecordedRun], Sequence[Event]],
    place: Callable[[Event], float],
    x_title: str,
    y_title: str,
) -> go.Figure | None:
    """Draw a chart per exit, a line per run that has it. None without any record."""
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
            values = [to_five_digits(event.get(name)) for event in events]
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


def lines(runs: Sequence[RecordedRun], shown: Sequence[RecordedRun]) -> list[dict[str, Any]]:
    """Name, colour and legend of each shown run's line; the same in all charts of a page.

    Methods have colours of their own; of a single method, the runs have. The legend names runs, or
    methods where it would get long.
    """
    several = len({run.method for run in runs}) > 1
    methods = list(METHODS)
    styles, labelled = [], set()
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
                "showlegend": label not in labelled,
                "line": {"color": DISTINCT[place % len(DISTINCT)], "width": 1.6},
            }
        )
        labelled.add(label)
    return styles


def accuracy_against_cost(runs: Sequence[RecordedRun]) -> go.Figure | None:
    """Draw the accuracy of each exit against its multiply-adds, of finished runs."""
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


def weight_sums(runs: Sequence[RecordedRun], points: int) -> go.Figure | None:
    """Draw Σγ/Σγ₀ of the runs that learn γ."""
    shown = [run for run in runs if run.learns]
    if not shown:
        return None
    figure = go.Figure()
    for run, line in zip(shown, lines(runs, shown), strict=True):
        add_curve(figure, thinned(run.steps, points), names.GAMMA_SUM, line)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="Σγ/Σγ₀")
    return laid_out(figure, height=380)


ORDERED = ("#4c82d9", "#2fa39a", "#b39a2c", "#e0663f")  # exits, from the first to the last
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # a teacher one exit later, two, …
SEQUENTIAL, DIVERGING = "sequential", "diverging"  # the page picks the colours: 0 looks like no ink


def figures_of_run(run: RecordedRun, points: int) -> Iterable[tuple[str, go.Figure | None]]:
    """Draw the charts of one run; yields title and chart."""
    yield "Accuracy per exit", run_accuracy(run, points)
    ce, kd = run_losses(run, points)
    yield "Cross-entropies", ce
    yield "Distillation losses", kd
    yield "γ at the end" if run.finished else "γ now", gamma_matrix(run)
    yield "γ over time (start in brackets)", run_gamma(run, points)
    yield "Norm of the hypergradient", run_value(run, names.HYPERGRADIENT, "norm", points)
    yield "Throughput", run_value(run, names.IMAGES_PER_S, "images per second", points)
    yield "Waiting for data", run_value(run, names.WAITING, "share of time", points)


def run_accuracy(run: RecordedRun, points: int) -> go.Figure | None:
    """Draw validation and training accuracy of one run, a colour per exit."""
    figure = go.Figure()
    for kind, group, events, dash in (
        ("validation", names.VAL_TOP1, run.epochs, "solid"),
        ("training", names.TRAIN_TOP1, thinned(run.steps, points), "dot"),
    ):
        members = exit_members(group, events[0]) if events else []
        for name, color in zip(members, ordered(len(members)), strict=True):
            style = {"color": color, "dash": dash, "width": 1.8 if dash == "solid" else 1.1}
            line = {"name": f"{names.display(name)}, {kind}", "line": style}
            add_curve(figure, events, name, line)
    figure.update_yaxes(title_text="top-1, %")
    return over_steps(figure)


def run_losses(run: RecordedRun, points: int) -> list[go.Figure | None]:
    """Draw cross-entropies and distillation losses, each in the colour of its student."""
    places = names.losses(names.LOSS, run.steps[0]) if run.steps else {}
    colors = ordered(run.num_exits)
    events = thinned(run.steps, points)
    figures = (go.Figure(), go.Figure())
    for name, (teacher, student) in places.items():
        distance = "solid" if teacher is None else DASHES[(teacher - student - 1) % len(DASHES)]
        style = {"color": colors[student - 1], "dash": distance, "width": 1.5}
        line = {"name": names.display(name), "line": style}
        add_curve(figures[teacher is not None], events, name, line)
    for figure in figures:
        figure.update_yaxes(title_text="loss")
    return [over_steps(figure) for figure in figures]


def run_gamma(run: RecordedRun, points: int) -> go.Figure | None:
    """Draw γ over time: a row per entry, its change since the start in colour."""
    start = run.gamma_start
    if not run.learns:
        return None
    events = thinned(run.steps, points)
    change = [[to_five_digits(event.get(name), start[name]) for event in events] for name in start]
    bound = max((abs(v) for row in change for v in row if v is not None), default=0) or 1e-3
    figure = go.Figure(
        go.Heatmap(
            x=[event["step"] for event in events],
            y=[f"{names.display(name)} ({value:.2f})" for name, value in start.items()],
            z=change,
            zmin=-bound,
            zmax=bound,
            meta=DIVERGING,
            colorbar={"title": {"text": "γ − γ₀"}, "thickness": 12},
            hovertemplate="%{y}, step %{x}: %{z:+.3f}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", type="category", dtick=1)
    figure.update_xaxes(title_text="step")
    return laid_out(figure, height=max(300, 110 + 17 * len(start)))


def gamma_matrix(run: RecordedRun) -> go.Figure | None:
    """Draw γ now: who teaches (rows; the labels teach by cross-entropy) whom (columns)."""
    places = names.losses(names.GAMMA, run.steps[0]) if run.steps else {}
    if not places:
        return None
    exits = range(1, run.num_exits + 1)
    by_place = {place: name for name, place in places.items()}
    teachers = [None, *exits[1:]]
    last = run.steps[-1]
    last_values = [0, *(last[name] for name in places if name in last)]
    cells = [[by_place.get((teacher, student)) for student in exits] for teacher in teachers]
    figure = go.Figure(
        go.Heatmap(
            x=[f"exit {k}" for k in exits],
            y=["labels" if teacher is None else f"exit {teacher}" for teacher in teachers],
            z=[[to_five_digits(last.get(name)) if name else None for name in row] for row in cells],
            customdata=[[run.gamma_start.get(name) if name else None for name in r] for r in cells],
            meta=SEQUENTIAL,
            zmin=min(last_values),
            zmax=max(last_values) or 1,
            texttemplate="%{z:.2f}",
            colorbar={"title": {"text": "γ"}, "thickness": 12},
            hovertemplate="%{y} → %{x}: %{z:.4f}, at the start %{customdata:.4f}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
        )
    )
    figure.update_xaxes(title_text="student", side="bottom", showgrid=False)
    figure.update_yaxes(title_text="teacher", autorange="reversed", showgrid=False)
    return laid_out(figure, height=max(300, 110 + 34 * len(teachers)))


def run_value(run: RecordedRun, name: str, title: str, points: int) -> go.Figure | None:
    """Draw one recorded value over the steps."""
    figure = go.Figure()
    line = {"name": title, "showlegend": False, "line": {"color": DISTINCT[0], "width": 1.5}}
    if any(name in event for event in run.steps):
        add_curve(figure, thinned(run.steps, points), name, line)
    figure.update_yaxes(title_text=title, rangemode="tozero")
    return over_steps(figure, height=240)


def ordered(count: int) -> list[str]:
    """Return colours from the first exit to the last."""
    return sample_colorscale(ORDERED, [k / max(1, count - 1) for k in range(count)])
