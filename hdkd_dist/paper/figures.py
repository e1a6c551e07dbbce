"""Pictures of several runs: what γ learns, and accuracy under budgets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed
from matplotlib import pyplot as plt

from hdkd_dist.paper.records import Record, nested
from hdkd_dist.runs import names

LINES = (":", "--", "-", "-.")


def draw_gamma_over_seeds(runs: Sequence[Record], title: str, file: Path) -> Path:
    """Every entry of γ over the steps, a line per seed; a panel per student, and one for Σγ/Σγ₀."""
    entries = names.losses(names.GAMMA, runs[0].curve[0])
    students = sorted({student for _, student in entries.values()})
    figure, panels = plt.subplots(
        1, len(students) + 1, figsize=(3 * (len(students) + 1), 3.2), layout="constrained"
    )
    for axes, student in zip(panels, students, strict=False):
        own = [name for name, (_, who) in entries.items() if who == student]
        for number, name in enumerate(own):
            for run in runs:
                axes.plot(
                    [point["step"] for point in run.curve],
                    [point[name] for point in run.curve],
                    color=f"C{number}",
                    alpha=0.8,
                    linewidth=1,
                    label=names.display(name) if run is runs[0] else None,
                )
        axes.set_title(f"losses of exit {student}", fontsize=10)
        axes.legend(fontsize=7)
    for run in runs:
        steps = [point["step"] for point in run.curve]
        panels[-1].plot(steps, [point[names.GAMMA_SUM] for point in run.curve], "k-", linewidth=1)
    panels[-1].set_title("Σγ/Σγ₀", fontsize=10)
    for axes in panels:
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.suptitle(f"{title}: γ over training, {len(runs)} seed(s)")
    return save(figure, file)


def draw_budgeted(curves: Mapping[tuple[str, str], Sequence[Record]], file: Path) -> Path:
    """Test accuracy against the mean cost of an image: Figure 2.

    Args:
        curves: runs by network and method, of which the mean over seeds is drawn; a method has a
            colour, a network a kind of line.
        file: the picture.
    """
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    networks, methods = (list(dict.fromkeys(names)) for names in zip(*curves, strict=True))
    for (network, method), runs in curves.items():
        points = zip(*(nested(run.values)["budgeted"] for run in runs), strict=True)
        means = [
            [statistics.fmean(row[key] for row in rows) for key in ("mmac", "top1")]
            for rows in points
        ]
        axes.plot(
            *zip(*means, strict=True),
            color=f"C{methods.index(method)}",
            linestyle=LINES[networks.index(network) % len(LINES)],
            marker="o",
            markersize=3,
            label=f"{network}: {method} ({len(runs)})",
        )
    axes.set_xlabel("multiply-adds per image (millions)")
    axes.set_ylabel("test top-1 (%)")
    axes.set_title("budgeted (in brackets: seeds)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return save(figure, file)


def save(figure: plt.Figure, file: Path) -> Path:
    """Write the picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return file
