"""Draw several runs: what γ learns, and accuracy under budgets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")  # no display is needed
from matplotlib import pyplot as plt

from hdkd_dist.evaluation.measures import best_of_networks
from hdkd_dist.paper.records import Record, nested
from hdkd_dist.paper.studies import Row
from hdkd_dist.runs import names
from hdkd_dist.runs.pictures import band


def draw_gamma_over_seeds(runs: Sequence[Record], title: str, file: Path) -> Path:
    """Draw each entry of γ over the steps, a line per seed; panels: the students, and Σγ/Σγ₀.

    The students' panels have one scale, so that growth can be compared.
    """
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
        if axes is not panels[0]:
            axes.sharey(panels[0])
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


@dataclass(frozen=True)
class Curve:
    """Hold the accuracy of one method under budgets, mean over seeds.

    Attributes:
        data: CIFAR(500).
        method: its title.
        seeds: of which all networks are finished.
        budgets: allowed mean cost of an image in millions of multiply-adds, rising.
        mmac: what is spent of each.
        top5: test accuracy in percent, at each.
        spread: its standard deviation over seeds, at each; 0 for a single seed.
    """

    data: str
    method: str
    seeds: int
    budgets: Sequence[float]
    mmac: Sequence[float]
    top5: Sequence[float]
    spread: Sequence[float]

    def at(self, budget: float) -> float:
        """Read off the accuracy, between two budgets by a straight line."""
        return float(np.interp(budget, self.budgets, self.top5))


def budget_curves(rows: Sequence[Row], records: Mapping[str, Record]) -> list[Curve]:
    """Take for each budget the network that validation finds best, as the paper does.

    Args:
        rows: of networks of several depths; a block is "CIFAR(500), 4 exits", or the data alone
            where there is one network.
        records: the finished runs.
    """
    networks: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        networks.setdefault((row.block.split(", ")[0], row.title), []).append(row)
    found = []
    for (data, method), own in networks.items():
        chosen = []
        for seed in own[0].seeds:
            runs = {row.block: records.get(row.trial.with_seed(seed).name) for row in own}
            tables = {
                block: nested(run.values)["budgeted"]
                for block, run in runs.items()
                if run is not None and "budgeted.1.top5" in run.values
            }
            if len(tables) == len(runs):
                chosen.append(best_of_networks(tables, by="val_top5"))
        if chosen:
            at_budget = list(zip(*chosen, strict=True))
            budgets, mmac, top5 = (
                [statistics.fmean(row[key] for row in rows_of_seeds) for rows_of_seeds in at_budget]
                for key in ("budget_mmac", "mmac", "top5")
            )
            spread = [
                statistics.stdev(row["top5"] for row in rows_of_seeds) if len(chosen) > 1 else 0.0
                for rows_of_seeds in at_budget
            ]
            found.append(Curve(data, method, len(chosen), budgets, mmac, top5, spread))
    return found


def draw_budgeted(curves: Sequence[Curve], file: Path) -> Path:
    """Draw test accuracy against the mean cost of an image, of one data set: Figure 2."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for curve in curves:
        (line,) = axes.plot(curve.mmac, curve.top5, label=f"{curve.method} ({curve.seeds})")
        edges = band(curve.top5, curve.spread)
        axes.fill_between(curve.mmac, *edges, color=line.get_color(), alpha=0.12, lw=0)
    axes.set_xlabel("multiply-adds per image (millions)")
    axes.set_ylabel("test top-5 (%)")
    axes.set_title(
        f"{curves[0].data}: accuracy under a budget (bands: ± 1 sd of the seeds in brackets)",
        fontsize=10,
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return save(figure, file)


def save(figure: plt.Figure, file: Path) -> Path:
    """Write the picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return file
