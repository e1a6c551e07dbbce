"""The charts of a report that show one run."""

from __future__ import annotations

from collections.abc import Iterable

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from hdkd_dist.reporting.drawing import (
    DISTINCT,
    add_curve,
    exit_members,
    laid_out,
    over_steps,
    rounded,
    thinned,
)
from hdkd_dist.reporting.runs import Run
from hdkd_dist.training import names

ORDERED = ("#4c82d9", "#2fa39a", "#b39a2c", "#e0663f")  # exits, from the first to the last
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # a teacher one exit later, two, …
SEQUENTIAL, DIVERGING = "sequential", "diverging"  # the page picks the colours: 0 looks like no ink


def figures_of_run(run: Run, points: int) -> Iterable[tuple[str, go.Figure | None]]:
    """The charts of one run, with their titles."""
    yield "Accuracy per exit", run_accuracy(run, points)
    ce, kd = run_losses(run, points)
    yield "Cross-entropies", ce
    yield "Distillation losses", kd
    yield "γ at the end" if run.finished else "γ now", gamma_matrix(run)
    yield "γ over time (start in brackets)", run_gamma(run, points)
    yield "Norm of the hypergradient", run_value(run, names.HYPERGRADIENT, "norm", points)
    yield "Throughput", run_value(run, names.IMAGES_PER_S, "images per second", points)
    yield "Waiting for data", run_value(run, names.WAITING, "share of time", points)


def run_accuracy(run: Run, points: int) -> go.Figure | None:
    """Validation and training accuracy of one run, a colour per exit."""
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


def run_losses(run: Run, points: int) -> list[go.Figure | None]:
    """Cross-entropies, and distillation losses, each in the colour of its student."""
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


def run_gamma(run: Run, points: int) -> go.Figure | None:
    """γ over time: a row per entry, its change since the start in colour."""
    start = run.gamma_start
    if not run.learns:
        return None
    events = thinned(run.steps, points)
    change = [[rounded(event.get(name), start[name]) for event in events] for name in start]
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


def gamma_matrix(run: Run) -> go.Figure | None:
    """γ now: who teaches (rows; the labels teach by cross-entropy) whom (columns)."""
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
            z=[[rounded(last.get(name)) if name else None for name in row] for row in cells],
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


def run_value(run: Run, name: str, title: str, points: int) -> go.Figure | None:
    """One recorded value over the steps."""
    figure = go.Figure()
    line = {"name": title, "showlegend": False, "line": {"color": DISTINCT[0], "width": 1.5}}
    if any(name in event for event in run.steps):
        add_curve(figure, thinned(run.steps, points), name, line)
    figure.update_yaxes(title_text=title, rangemode="tozero")
    return over_steps(figure, height=240)


def ordered(count: int) -> list[str]:
    """Colours from the first exit to the last."""
    return sample_colorscale(ORDERED, [k / max(1, count - 1) for k in range(count)])
