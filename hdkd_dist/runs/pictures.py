"""How pictures of a run look, and the one that training and evaluation share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdkd_dist.files.replacing import replacing

matplotlib.use("Agg")  # no display is needed

COST = "multiply-adds per image (millions)"
ACCURACY = "top-1 accuracy (%)"
STYLE: Any = {  # matplotlib's stubs want its settings' names as literals
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}

Rows = Sequence[Mapping[str, Any]]


@contextmanager
def drawing(file: Path, width: float, height: float, **grid: Any) -> Iterator[tuple[Figure, Any]]:
    """Give a figure with axes and save it at the end; sizes in inches."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height), **grid)
        yield figure, axes
        with replacing(file) as partial:
            figure.savefig(partial, dpi=200)
        plt.close(figure)


def column(rows: Rows, key: str) -> list[Any]:
    """Return one value of every row."""
    return [row[key] for row in rows]


def half_width(percent: float, images: int) -> float:
    """Half of the 95 % interval of an accuracy in percent, measured on so many images (Wald)."""
    return 1.96 * float(percent * (100 - percent) / images) ** 0.5


def band(middle: Sequence[float], half: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the lower and the upper edge of a band around a curve."""
    pairs = list(zip(middle, half, strict=True))
    return [m - h for m, h in pairs], [m + h for m, h in pairs]


def shade_noise(axes: Axes, costs: Sequence[float], top1: Sequence[float], images: int) -> None:
    """Shade the 95 % interval around a curve of accuracies, in percent, on so many test images."""
    edges = band(top1, [half_width(each, images) for each in top1])
    label = f"95 % interval, {images:,} test images"
    axes.fill_between(costs, *edges, color="C0", alpha=0.12, lw=0, label=label)


def draw_accuracy(exits: Rows, test_images: int, title: str, file: Path) -> None:
    """Draw the accuracy of every exit against the multiply-adds it takes to reach it.

    Args:
        exits: rows of ``results.json``; with or without accuracies on validation, on test.
        test_images: of which the interval is.
        title: of the picture.
        file: to draw to.
    """
    costs = column(exits, "mmac")
    with drawing(file, 5, 3.4) as (_, axes):
        if "val_top1" in exits[0]:
            axes.plot(costs, column(exits, "val_top1"), "s:", color="C1", ms=4, label="validation")
        if "top1" in exits[0]:
            test = column(exits, "top1")
            axes.plot(costs, test, "o-", color="C0", label="test")
            shade_noise(axes, costs, test, test_images)
        axes.margins(x=0.06, y=0.15)
        axes.set(xlabel=COST, ylabel=ACCURACY, title=title)
        above = axes.secondary_xaxis("top")  # names there meet no curve
        above.set_xticks(costs, [f"exit {row['exit']}" for row in exits], fontsize=8)
        above.tick_params(length=0, pad=1)
        above.spines["top"].set_visible(False)
        axes.legend(loc="lower right")
