"""The two pictures of a run: accuracy against cost, and γ over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hdkd_dist.runs import names
from hdkd_dist.runs.folder import FIGURES
from hdkd_dist.runs.metrics import read_metrics
from hdkd_dist.runs.pictures import draw_accuracy, drawing
from hdkd_dist.runs.results import GammaEntries, read_results


def draw_figures(folder: Path, test_images: int) -> list[Path]:
    """Draw a finished run's pictures from its ``results.json`` and ``metrics.jsonl``."""
    results = read_results(folder)
    steps = [event for event in read_metrics(folder) if event["event"] == "step"]
    figures = folder / FIGURES
    drawn = [figures / "accuracy_vs_mmac.png", figures / "gamma_over_time.png"]
    title = f"{results['method']}, {results['preset']} on {results['dataset']}"
    draw_accuracy(results["exits"], test_images, title, drawn[0])
    draw_gamma(results["gamma"]["initial"], steps, drawn[1])
    return drawn


def draw_gamma(initial: GammaEntries, steps: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw every entry of γ over the training steps, as a heat map of its difference from γ₀."""
    start = names.gamma_by_name(initial, steps[0])
    change = [[event[name] - value for event in steps] for name, value in start.items()]
    least, most = min(0, *map(min, change)), max(0, *map(max, change))
    bound = max(-least, most) or 1e-3  # 0 is white
    with drawing(file, 7, 1.5 + 0.22 * len(start)) as (figure, axes):
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
        axes.grid(visible=False)
        axes.set(xlabel="step")
        axes.set_title("loss weights γ: change since the start (initial value in brackets)")
        scale = figure.colorbar(picture, ax=axes, label="γ − γ₀")
        if least < most:
            scale.ax.set_ylim(least, most)  # of the colours only those that occur
