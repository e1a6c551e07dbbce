"""Make a W&B workspace of these runs: ``python -m hdkd_dist wandb-workspace``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from hdkd_dist import cli
from hdkd_dist.runs import names
from hdkd_dist.runs.metrics import read_metrics, run_folders

STEP = wr.Metric("step")  # counts optimiser steps, also across a resume
METHOD = wr.Config("hdkd.method")
PER_EXIT = {
    names.VAL_TOP1: "validation top-1",
    names.VAL_TOP5: "validation top-5",
    names.TRAIN_TOP1: "training top-1",
}
AT_THE_END = {names.TEST_TOP1: "test top-1", names.TEST_TOP5: "test top-5"}
Panel = wr.LinePlot | wr.BarPlot
GROUPS = (*PER_EXIT, *AT_THE_END, names.LOSS, names.GAMMA, names.AVERAGE_CE)


def main(entity: str, project: str, runs: Sequence[str] = ("runs/*",)) -> None:
    """Save a workspace of this project's panels to W&B: needs a network and a login.

    Args:
        entity: the W&B user or team.
        project: the W&B project that the runs are in.
        runs: local runs; the workspace has panels for what they have logged.
    """
    folders = run_folders([runs] if isinstance(runs, str) else runs)
    logged = logged_names(event for folder in folders for event in read_metrics(folder))
    if not logged:
        raise ValueError("these runs have not logged anything yet: try again later")
    print(save(workspace(str(entity), str(project), logged)))


def logged_names(events: Iterable[dict]) -> list[str]:
    """List the names of all measured values, in the order in which they were first logged."""
    found = {name: None for event in events for name in event}
    return [name for name in found if name not in names.PLACES]


def workspace(entity: str, project: str, logged: Sequence[str]) -> ws.Workspace:
    """Compose the workspace; nothing is sent.

    Args:
        entity, project: where it belongs.
        logged: see :func:`logged_names`; every one of them gets a place.
    """
    sections: dict[str, Sequence[Panel | None]] = {
        "Comparison of methods": comparison(logged),
        "Accuracy per exit": [
            *(curves(t, names.members(group, logged), "%") for group, t in PER_EXIT.items()),
            *(bars(t, names.members(group, logged)) for group, t in AT_THE_END.items()),
        ],
        "γ": [
            curves("Σγ/Σγ₀", [name for name in logged if name == names.GAMMA_SUM]),
            *by_student("γ", names.GAMMA, logged),
            curves("E_k", names.members(names.AVERAGE_CE, logged)),
        ],
        "Losses": by_student("loss", names.LOSS, logged),
        "Throughput and health": [curves(name, [name]) for name in single(logged)],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name="hdkd_dist",
        sections=[
            ws.Section(name=title, panels=shown, is_open=True)
            for title, panels in sections.items()
            if (shown := there(panels))
        ],
        settings=ws.WorkspaceSettings(x_axis=STEP.name, max_runs=50),
    )


def there(panels: Iterable[Panel | None]) -> list[Any]:
    """Keep the panels that show something; ``list[Any]``, for W&B's own list is invariant."""
    return [panel for panel in panels if panel is not None]


def comparison(logged: Sequence[str]) -> list[Panel | None]:
    """Show per exit the mean over each method's runs and their range."""
    by_method: dict[str, Any] = {
        "groupby": METHOD,
        "groupby_aggfunc": "mean",
        "groupby_rangefunc": "minmax",
    }
    validation = [
        curves(f"validation top-1, {names.display(name)}", [name], "%", **by_method)
        for name in names.members(names.VAL_TOP1, logged)
    ]
    test = [
        bars(f"test top-1, {names.display(name)}", [name], **by_method)
        for name in names.members(names.TEST_TOP1, logged)
    ]
    ratio = [name for name in logged if name == names.GAMMA_SUM]
    return [*validation, *test, curves("Σγ/Σγ₀", ratio, **by_method)]


def by_student(title: str, group: str, logged: Sequence[str]) -> list[wr.LinePlot | None]:
    """Show a panel of the cross-entropies, then one per student of its distillations."""
    places = names.losses(group, logged)
    distilled = {name: student for name, (teacher, student) in places.items() if teacher}
    return [
        curves(f"{title}, cross-entropies", [name for name in places if name not in distilled]),
        *(
            curves(f"{title}, taught to exit {k}", [n for n, s in distilled.items() if s == k])
            for k in sorted(set(distilled.values()))
        ),
    ]


def single(logged: Sequence[str]) -> list[str]:
    """List the values of no group above: speed, memory, norms, and what is added later."""
    grouped = {name for group in GROUPS for name in names.members(group, logged)}
    return [name for name in logged if name not in grouped and name != names.GAMMA_SUM]


def curves(title: str, shown: Sequence[str], unit: str = "", **grouping: Any) -> wr.LinePlot | None:
    """Show values over the steps, or None if there are none."""
    if not shown:
        return None
    metrics: list[Any] = [wr.Metric(name) for name in shown]
    return wr.LinePlot(title=title, x=STEP, y=metrics, title_y=unit or None, **grouping)


def bars(title: str, shown: Sequence[str], **grouping: Any) -> wr.BarPlot | None:
    """Show the last values, or None if there are none."""
    metrics: list[Any] = [wr.Metric(name) for name in shown]
    return wr.BarPlot(title=title, metrics=metrics, title_x="%", **grouping) if shown else None


def save(specification: ws.Workspace) -> str:
    """Save the workspace as a new view; returns its address.

    Raises:
        ValueError: without a login or a network, or if W&B refuses.
    """
    os.environ["WANDB_SILENT"] = "true"
    place = f"{specification.entity}/{specification.project}"
    try:
        return specification.save().url
    except Exception as error:  # those of W&B's client have no common base
        raise ValueError(
            f"cannot save the workspace to {place}: {str(error).rstrip('. ')}; W&B wants a network "
            "and a login (wandb login, or WANDB_API_KEY)"
        ) from error


if __name__ == "__main__":
    cli.run(main)
