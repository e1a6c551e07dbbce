"""The two pictures of a run: accuracy against cost, and γ over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display is needed
from matplotlib import pyplot as plt

from hdkd_dist.files.replacing import replacing
from hdkd_dist.method.weights import METHODS
from hdkd_dist.runs import names
from hdkd_dist.runs.folder import FIGURES
from hdkd_dist.runs.metrics import read_metrics
from hdkd_dist.runs.results import GammaEntries, Results, read_results


def draw_figures(folder: Path) -> list[Path]:
    """Draw a finished run's pictures from its ``results.json`` and ``metrics.jsonl``."""
    results = read_results(folder)
    steps = [event for event in read_metrics(folder) if event["event"] == "step"]
    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)
    drawn = [figures / "accuracy_vs_mmac.png", figures / "gamma_over_time.png"]
    draw_accuracy(results, drawn[0])
    draw_gamma(results["gamma"]["initial"], steps, drawn[1])
    return drawn


def draw_accuracy(results: Results, file: Path) -> None:
    """Draw the accuracy of every exit against the multiply-adds it takes to reach it."""
    exits = results["exits"]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    mmac = [row["mmac"] for row in exits]
    curves = {"top1": ("test", "o-"), "val_top1": ("validation", "s--")}
    measured = [name for name in curves if name in exits[0]]
    rows: Sequence[Mapping[str, Any]] = exits
    for name in measured:
        label, style = curves[name]
        axes.plot(mmac, [row[name] for row in rows], style, label=label)
    for name in measured[:1]:
        for row in rows:
            place = (row["mmac"], row[name])
            axes.annotate(
                f"exit {row['exit']}", place, (4, -12), textcoords="offset points", fontsize=8
            )
    axes.set_xlabel("multiply-adds per image (millions)")
    axes.set_ylabel("top-1 accuracy (%)")
    title = METHODS[results["method"]].title
    axes.set_title(f"{title}, {results['preset']} on {results['dataset']}")
    axes.margins(x=0.12, y=0.15)
    axes.grid(alpha=0.3)
    if measured:
        axes.legend()
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)


def draw_gamma(initial: GammaEntries, steps: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw every entry of γ over the training steps, as a heat map of its difference from γ₀."""
    start = names.gamma_by_name(initial, steps[0])
    change = [[event[name] - value for event in steps] for name, value in start.items()]
    bound = max(max(map(abs, row)) for row in change) or 1e-3
    figure, axes = plt.subplots(figsize=(7, 1.5 + 0.22 * len(start)), layout="constrained")
    picture = axes.pcolormesh(
        [event["step"] for event in steps],
        range(len(start)),
        change,
        cmap="RdBu_r",
        vmin=-bound,
        vmax=bound,
        shading="nearest",
    )
    labels = [f"{names.display(name)}  ({value:.2f})" for name, value in start.items()]
    axes.set_yticks(range(len(start)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("step")
    axes.set_title("loss weights γ: change since the start (initial value in brackets)")
    figure.colorbar(picture, ax=axes, label="γ − γ₀")
    with replacing(file) as partial:
        figure.savefig(partial, dpi=150)
    plt.close(figure)
