"""Draw the evaluation: curves, shares of exits, reliability."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import matplotlib
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from hdkd_dist.evaluation.measures import Evaluation
from hdkd_dist.evaluation.thresholds import SEARCHES
from hdkd_dist.files.replacing import replacing
from hdkd_dist.inference.confidence import Judged, judge, reliability
from hdkd_dist.inference.scoring import exits_taken, oracle
from hdkd_dist.runs.results import BudgetRow, Results

matplotlib.use("Agg")  # no display is needed


COST = "multiply-adds per image (millions)"
ACCURACY = "top-1 accuracy (%)"
FEWEST = 20  # images in a bin of the reliability diagram that is drawn
TICKS = [0, 0.5, 1]
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


def draw_anytime(exits: Rows, title: str, file: Path) -> None:
    """Draw the accuracy of every exit against the multiply-adds it takes to reach it."""
    with drawing(file, 5, 3.4) as (_, axes):
        axes.plot(column(exits, "mmac"), column(exits, "top1"), "o-", label="test")
        axes.plot(column(exits, "mmac"), column(exits, "val_top1"), "s--", label="validation", ms=4)
        for row in exits:
            place = (row["mmac"], min(row["top1"], row["val_top1"]))
            axes.annotate(f"exit {row['exit']}", place, (4, -12), textcoords="offset points")
        axes.margins(x=0.12, y=0.15)
        axes.set(xlabel=COST, ylabel=ACCURACY, title=title)
        axes.legend()


def draw_budgeted(results: Results, test: Judged, title: str, file: Path) -> None:
    """Draw accuracy under a budget: both searches, the single exits, and the ideal early exit."""
    exits = results["exits"]
    ideal_cost, ideal_top1 = (line.tolist() for line in oracle(test.top1, column(exits, "mmac")))
    costs, single = column(exits, "mmac"), column(exits, "top1")
    with drawing(file, 5.4, 4.4) as (figure, axes):
        ideal = [*ideal_cost, costs[-1]], [*ideal_top1, ideal_top1[-1]]
        axes.plot(*ideal, ":", color="0.3", label="ideal early exit (oracle)")
        used = results["search"]["default"]
        others = [name for name in SEARCHES if name != used]
        keys = {used: "budgeted", **{name: f"budgeted_{name}" for name in others}}
        for (name, key), line in zip(keys.items(), ("C0-", "C1--"), strict=True):
            rows = cast(Mapping[str, Rows], results)[key]
            axes.plot(column(rows, "mmac"), column(rows, "top1"), line, label=f"{name} search")
        rows = results["budgeted"]
        noise = [1.96 * (p * (100 - p) / test.top1.shape[1]) ** 0.5 for p in column(rows, "top1")]
        low, high = ([r["top1"] + s * n for r, n in zip(rows, noise, strict=True)] for s in (-1, 1))
        axes.fill_between(
            column(rows, "mmac"), low, high, color="C0", alpha=0.12, lw=0, label="95 % interval"
        )
        axes.plot(costs, single, "o-", color="C3", lw=1, label="single exits")
        axes.set(xlabel=COST, ylabel=ACCURACY, title=title)
        figure.legend(loc="outside lower center", ncols=3)  # the ideal fills the axes' top


def draw_exits_taken(rows: Rows, file: Path) -> None:
    """Draw where the test images leave, for some budgets."""
    shown = list(rows)[4::4][:9]
    with drawing(file, 5.4, 3.4) as (figure, axes):
        exits = len(shown[0]["shares"])
        below = [0.0] * len(shown)
        places = range(len(shown))
        colors = plt.get_cmap("viridis_r")(torch.linspace(0.08, 0.95, exits).numpy())
        for k in range(exits):
            share = [100 * row["shares"][k] for row in shown]
            axes.bar(places, share, 0.75, bottom=below, color=colors[k], label=f"exit {k + 1}")
            below = [b + s for b, s in zip(below, share, strict=True)]
        axes.set_xticks(places, [f"{row['budget_mmac']:.3g}" for row in shown])
        axes.grid(axis="x", visible=False)
        axes.set(xlabel="budget: " + COST, ylabel="test images that leave (%)", ylim=(0, 100))
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right center")


def draw_reliability(evaluation: Evaluation, file: Path) -> None:
    """Draw accuracy against confidence on test images, before and after calibration."""
    outputs, fitted = evaluation.outputs["test"], evaluation.fitted
    exits = len(fitted)
    columns = min(exits, 4)
    rows = -(-exits // columns)
    kinds = (
        ("probability", torch.ones_like(fitted), "C1", "s--"),
        ("calibrated", fitted, "C0", "o-"),
    )
    with drawing(
        file, 2.1 * columns + 0.4, 2.4 * rows + 0.2, nrows=rows, ncols=columns, squeeze=False,
        sharex=True, sharey=True,
    ) as (figure, axes):  # fmt: skip
        for name, temperatures, color, style in kinds:
            judged = judge(outputs, temperatures, temperatures)
            for k, (place, *split) in enumerate(
                zip(axes.flat, judged.confidence, judged.top1, strict=False)
            ):
                found = reliability(*split)
                many = found.share * len(split[0]) >= FEWEST  # the others are noise
                place.plot(
                    found.confidence[many], found.accuracy[many], style, color=color, ms=3, lw=1.2
                )
                text = f"{name}: ECE {100 * found.error:.1f} %"
                place.text(0.03, 0.97 - 0.09 * (name == "calibrated"), text, color=color,
                           transform=place.transAxes, va="top", fontsize=7.5)  # fmt: skip
                place.set_title(f"exit {k + 1}, T = {fitted[k]:.2f}", fontsize=9)
        for place in axes.flat:
            place.plot([0, 1], [0, 1], color="0.6", lw=0.8, zorder=0)
            place.set(aspect="equal", xlim=(0, 1), ylim=(0, 1), xticks=TICKS, yticks=TICKS)
        for place in list(axes.flat)[exits:]:
            place.set_visible(False)
        figure.supxlabel("mean confidence", fontsize=9)
        figure.supylabel("accuracy", fontsize=9)


def draw_networks(networks: Mapping[str, Rows], best: Rows, title: str, file: Path) -> None:
    """Draw the curve of several networks: for each budget the one that validation finds best."""
    with drawing(file, 5.4, 3.8) as (_, axes):
        for number, (name, rows) in enumerate(networks.items()):
            static = len(rows[0]["thresholds"]) == 1  # one exit: a point, and no curve
            axes.plot(
                column(rows, "mmac"),
                column(rows, "top1"),
                "D" if static else "-",
                lw=1.2,
                color=f"C{number}",
                label=name,
            )
        axes.plot(
            column(best, "mmac"),
            column(best, "top1"),
            "k.",
            ms=5,
            label="best on validation",
            zorder=3,
        )
        axes.set(xlabel=COST, ylabel=ACCURACY, title=title)
        axes.legend()


COLUMNS = 8  # classes
EACH = 2  # images of a kind per class


def easy_and_hard(
    evaluation: Evaluation, thresholds: Sequence[float]
) -> list[tuple[int, list[int], list[int]]]:
    """Find classes with test images of both kinds: label, places of easy and of hard ones.

    Easy images leave first, and are taken by their confidence there; hard ones leave last, and had
    the least confidence at the first exit. All are answered rightly where they leave.
    """
    outputs, test = evaluation.outputs["test"], evaluation.test
    taken = exits_taken(test.confidence, torch.tensor(thresholds))
    right = test.top1.gather(0, taken[None])[0]
    first = test.confidence[0]
    last = len(test.confidence) - 1
    found = []
    for label in outputs.labels.unique().tolist():
        own = (outputs.labels == label) & right
        easy = (own & (taken == 0)).nonzero()[:, 0]
        hard = (own & (taken == last)).nonzero()[:, 0]
        if len(easy) >= EACH and len(hard) >= EACH:
            easy = easy[first[easy].argsort(descending=True)[:EACH]]
            hard = hard[first[hard].argsort()[:EACH]]
            found.append((label, easy.tolist(), hard.tolist()))
    step = max(1, len(found) // COLUMNS)
    return found[::step][:COLUMNS]


def draw_easy_and_hard(
    evaluation: Evaluation,
    row: BudgetRow,
    classes: Sequence[str],
    images_at: Callable[[Sequence[int]], Tensor],
    file: Path,
) -> bool:
    """Draw the grid.

    Args:
        evaluation: of the network.
        row: of the budgeted table.
        classes: their names.
        images_at: positions in the test split → images [B, 3, H, W] uint8.
        file: to draw to.

    Returns:
        False, and no picture, if no class has images of both kinds.
    """
    chosen = easy_and_hard(evaluation, row["thresholds"])
    if not chosen:
        return False
    indices = evaluation.outputs["test"].indices
    places = [place for _, easy, hard in chosen for place in (*easy, *hard)]
    images = images_at([int(indices[place]) for place in places])
    grid = {"nrows": 2 * EACH, "ncols": len(chosen), "squeeze": False}
    with drawing(file, 0.95 * len(chosen) + 0.5, 0.95 * 2 * EACH + 0.5, **grid) as (figure, axes):
        for number, image in enumerate(images):
            column, line = divmod(number, 2 * EACH)
            place = axes[line, column]
            place.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            place.set(xticks=[], yticks=[])
            place.grid(visible=False)
            for spine in place.spines.values():
                spine.set_visible(False)
        for column, (label, _, _) in enumerate(chosen):
            axes[0, column].set_title(classes[label].replace("_", " "), fontsize=8)
        last = len(evaluation.costs.mmac)
        for line, text in ((0, "leave at exit 1"), (EACH, f"leave at exit {last}")):
            axes[line, 0].set_ylabel(text, fontsize=8, loc="top" if EACH == 1 else "center")
        figure.suptitle(
            f"budget {row['budget_mmac']:.3g} million multiply-adds per image", fontsize=9
        )
    return True
