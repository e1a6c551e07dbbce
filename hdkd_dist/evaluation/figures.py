"""Draw the evaluation: curves, shares of exits, reliability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch import Tensor

from hdkd_dist.evaluation.measures import Evaluation
from hdkd_dist.inference.confidence import Judged, judge, reliability
from hdkd_dist.inference.scoring import exits_taken, oracle
from hdkd_dist.runs.pictures import (
    ACCURACY,
    COST,
    Rows,
    column,
    drawing,
    shade_noise,
)
from hdkd_dist.runs.results import BudgetRow, Results

FEWEST = 20  # images in a bin of the reliability diagram that is drawn


def draw_budgeted(results: Results, test: Judged, title: str, file: Path) -> None:
    """Draw accuracy under a budget beside the single exits and the ideal early exit.

    The ideal, which would know for each image the first exit that is right, may leave the picture
    at the top: it must not press the rest together.
    """
    exits, rows = results["exits"], results["budgeted"]
    costs, images = column(exits, "mmac"), test.top1.shape[1]
    spent, accuracy = column(rows, "mmac"), column(rows, "top1")
    ideal_cost, ideal_top1 = (line.tolist() for line in oracle(test.top1, costs))
    with drawing(file, 5.4, 4) as (figure, axes):
        axes.plot(spent, accuracy, "C0-", label="early exit")
        shade_noise(axes, spent, accuracy, images)
        axes.plot(costs, column(exits, "top1"), "o-", color="C3", lw=1, label="single exits")
        bottom, top = axes.get_ylim()
        ideal = [*ideal_cost, costs[-1]], [*ideal_top1, ideal_top1[-1]]
        axes.plot(*ideal, ":", color="0.3", label="ideal early exit (oracle)")
        axes.set_ylim(bottom, min(axes.get_ylim()[1], top + 0.25 * (top - bottom)))
        axes.set(xlabel=COST, ylabel=ACCURACY, title=title)
        figure.legend(loc="outside lower center", ncols=2)


def draw_exits_taken(rows: Rows, title: str, file: Path) -> None:
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
        decimals = 2 if shown[0]["budget_mmac"] < 10 else 0
        axes.set_xticks(places, [f"{row['budget_mmac']:.{decimals}f}" for row in shown])
        axes.grid(axis="x", visible=False)
        axes.set(xlabel="budget: " + COST, ylabel="test images that leave (%)", ylim=(0, 100))
        axes.set_title(title)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right center")


def draw_reliability(evaluation: Evaluation, title: str, file: Path) -> bool:
    """Draw accuracy against confidence on test images, before and after calibration.

    Returns:
        Whether there are enough images for it.
    """
    outputs, fitted = evaluation.outputs["test"], evaluation.fitted
    if not any(well_filled(*split).any() for split in pairs_of(judge(outputs, fitted, fitted))):
        return False
    exits = len(fitted)
    columns = min(exits, 4)
    rows = -(-exits // columns)
    kinds = (
        ("probability", torch.ones_like(fitted), "C1", "s--"),
        ("calibrated", fitted, "C0", "o-"),
    )
    with drawing(
        file, 2.1 * columns + 0.4, 2.4 * rows + 0.4, nrows=rows, ncols=columns, squeeze=False,
        sharex=True, sharey=True,
    ) as (figure, axes):  # fmt: skip
        lowest = 1.0
        for name, temperatures, color, style in kinds:
            judged = judge(outputs, temperatures, temperatures)
            for k, (place, split) in enumerate(zip(axes.flat, pairs_of(judged), strict=False)):
                found = reliability(*split)
                many = well_filled(*split)  # the others are noise
                drawn = found.confidence[many], found.accuracy[many]
                lowest = min([lowest, *(float(each.min()) for each in drawn if len(each))])
                place.plot(*drawn, style, color=color, ms=3, lw=1.2, clip_on=False)
                text = f"{name}: ECE {100 * found.error:.1f} %"
                place.text(0.03, 0.97 - 0.09 * (name == "calibrated"), text, color=color,
                           transform=place.transAxes, va="top", fontsize=7.5)  # fmt: skip
                place.set_title(f"exit {k + 1}, T = {fitted[k]:.2f}", fontsize=9)
        start = 0.5 if lowest > 0.55 else 0.0  # nothing is below: show the rest at twice the size
        ticks, limits = [start, (1 + start) / 2, 1], (start, 1)
        for place in axes.flat:
            place.plot([0, 1], [0, 1], color="0.6", lw=0.8, zorder=0)
            place.set(aspect="equal", xlim=limits, ylim=limits, xticks=ticks, yticks=ticks)
        for place in list(axes.flat)[exits:]:
            place.set_visible(False)
        figure.supxlabel("mean confidence", fontsize=9)
        figure.supylabel("accuracy", fontsize=9)
        figure.suptitle(title, fontsize=10)
    return True


def pairs_of(judged: Judged) -> list[tuple[Tensor, Tensor]]:
    """Give each exit's confidence and correctness, [N] each."""
    return list(zip(judged.confidence, judged.top1, strict=True))


def well_filled(confidence: Tensor, right: Tensor) -> Tensor:
    """Tell which bins hold enough images to be drawn, [bins] bool."""
    return reliability(confidence, right).share * len(confidence) >= FEWEST


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
    width = max(0.95 * len(chosen) + 0.5, 3.4)  # the title's, at least
    with drawing(file, width, 0.95 * 2 * EACH + 0.5, **grid) as (figure, axes):
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
        for line in range(2 * EACH):
            axes[line, 0].set_ylabel(f"leaves at\nexit {1 if line < EACH else last}", fontsize=8)
        figure.suptitle(
            f"budget {row['budget_mmac']:.3g} million multiply-adds per image", fontsize=9
        )
    return True
