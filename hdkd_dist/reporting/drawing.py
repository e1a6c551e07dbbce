"""What all charts of a report share. Colours of text and grid are left to the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from hdkd_dist.reporting.runs import Event
from hdkd_dist.training import names

DISTINCT = ("#4e79a7", "#f28e2b", "#59a14f", "#9c755f", "#b07aa1", "#2aa5a0", "#e15759", "#d37295")
LINE = "%{fullData.name}<br>%{x}: %{y:.4~g}<extra></extra>"


def thinned(events: Sequence[Event], limit: int) -> list[Event]:
    """Evenly chosen records, the last among them; all if there are few."""
    stride = math.ceil(len(events) / limit) if events else 1
    return list(events[::-1][::stride][::-1])


def add_curve(figure: go.Figure, events: Sequence[Event], name: str, line: dict[str, Any]) -> None:
    """A value over the steps; records that lack it are left out."""
    known = [event for event in events if name in event]
    figure.add_scatter(
        x=[event["step"] for event in known],
        y=[rounded(event[name]) for event in known],
        mode="lines" if len(known) > 1 else "markers",
        hovertemplate=LINE,
        **line,
    )


def over_steps(figure: go.Figure, height: int = 340) -> go.Figure | None:
    """The figure with steps below; None if it is empty."""
    if not figure.data:
        return None
    figure.update_xaxes(title_text="step")
    return laid_out(figure, height=height)


def laid_out(figure: go.Figure, height: int) -> go.Figure:
    """Without plotly's own template, whose colours are for white paper.

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


def rounded(value: float | None, minus: float = 0.0) -> float | None:
    """Five digits: more cannot be seen, and would double the page."""
    return None if value is None else float(f"{value - minus:.5g}")


def exit_members(group: str, event: Event) -> list[str]:
    """The group's names that belong to one exit alone, from the first exit to the last."""
    found = [name for name in names.members(group, event) if "_to_" not in name]
    return sorted(found, key=names.exit_number)
