"""Render the report: one file of HTML that loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from hdkd_dist import __version__
from hdkd_dist.reporting.comparison import figures_of, figures_of_run, points_per_run
from hdkd_dist.reporting.evaluated import MeanOverSeeds, evaluation_charts, means_over_seeds
from hdkd_dist.reporting.runs import RecordedRun, comparable, differences

OPEN_RUNS = 3  # with more, the charts of single runs are folded away


@dataclass(frozen=True)
class Chart:
    """A figure's place on the page."""

    title: str
    figure: Markup  # JSON, safe inside a script element
    height: int  # pixels, at least
    wide: bool


@dataclass(frozen=True)
class Comparison:
    """What compares the runs of one network on one data set."""

    means: Sequence[MeanOverSeeds]
    charts: Sequence[Chart]


def render(runs: Sequence[RecordedRun]) -> str:
    """Render the page. Everything that runs contain is escaped."""
    environment = Environment(
        loader=PackageLoader("hdkd_dist.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": format_number, "utc": utc}
    points = points_per_run(runs)
    return environment.get_template("page.html").render(
        runs=runs,
        num_exits=max(run.num_exits for run in runs),
        differences=differences(runs),
        comparisons={
            title: Comparison(
                means_over_seeds(members),
                charts(
                    [*figures_of(members, points), *evaluation_charts(members)], wide=("per exit",)
                ),
            )
            for title, members in comparable(runs).items()
        },
        single=[charts([*figures_of_run(run, points), *evaluation_charts([run])]) for run in runs],
        unfold=len(runs) <= OPEN_RUNS,
        points=points,
        version=__version__,
        now=datetime.now(timezone.utc).timestamp(),
        style=Markup(read_beside("page.css")),
        script=Markup(read_beside("page.js")),
        plotly=Markup(get_plotlyjs()),
    )


def charts(
    figures: Iterable[tuple[str, go.Figure | None]], wide: Sequence[str] = ()
) -> list[Chart]:
    """Keep the figures that have something to show."""
    return [
        Chart(
            title, script_json(figure), figure.layout.meta["height"], any(w in title for w in wide)
        )
        for title, figure in figures
        if figure is not None
    ]


def script_json(figure: go.Figure) -> Markup:
    """Write a figure as JSON that cannot end the script element it stands in."""
    return Markup(
        json.dumps(with_lists(figure.to_plotly_json()), allow_nan=False).replace("<", "\\u003c")
    )


def with_lists(value: object) -> object:
    """Turn tuples into lists: plotly keeps sequences as tuples, and matrices as they were given."""
    if isinstance(value, Mapping):
        return {key: with_lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_lists(item) for item in value]
    return value


def read_beside(name: str) -> str:
    """Read a file beside this one."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def format_number(value: float | None, pattern: str = ".2f") -> str:
    """Write a number for a table; "–" if there is none."""
    return "–" if value is None else format(value, pattern)


def utc(seconds: float) -> str:
    """Write seconds since 1970 as a date."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
