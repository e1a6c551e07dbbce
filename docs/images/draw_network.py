"""Draw a multi-exit network, who teaches whom, and γ: ``python docs/images/draw_network.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FILE = Path(__file__).with_name("network.png")
STAGE, EXIT, TEACH, LABEL, GAMMA = "#dbe7f5", "#9ecae1", "#d95f0e", "#4d4d4d", "#08519c"
EXITS = 4
STEP = 2.3  # from one stage to the next
STAGES_Y, EXITS_Y, LABELS_Y = 3.6, 1.9, 0.0


def box(axes: Axes, x: float, y: float, text: str, color: str, width: float = 1.5) -> None:
    """Draw a box around its text; x and y are its centre."""
    corner = (x - width / 2, y - 0.32)
    axes.add_patch(FancyBboxPatch(corner, width, 0.64, "round,pad=0.02", fc=color, ec="0.35", lw=1))
    axes.text(x, y, text, ha="center", va="center", fontsize=11)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, bend: float = 0
) -> None:
    """Draw an arrow, bent to one side."""
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=12, connectionstyle=style, color=color,
            lw=1.5, shrinkA=2, shrinkB=2,
        )
    )  # fmt: skip


def draw(file: Path) -> None:
    """Draw the picture."""
    figure, axes = plt.subplots(figsize=(10.5, 4.1), layout="constrained")
    places = [STEP * k for k in range(EXITS)]
    axes.text(-1.75, STAGES_Y, "image", ha="center", va="center", fontsize=11)
    arrow(axes, (-1.35, STAGES_Y), (-0.8, STAGES_Y), LABEL)
    for k, x in enumerate(places):
        box(axes, x, STAGES_Y, f"stage {k + 1}", STAGE)
        box(axes, x, EXITS_Y, f"exit {k + 1}", EXIT, width=1.1)
        arrow(axes, (x, STAGES_Y - 0.36), (x, EXITS_Y + 0.36), LABEL)
        if k:
            arrow(axes, (x - STEP + 0.8, STAGES_Y), (x - 0.8, STAGES_Y), LABEL)
        arrow(axes, (x, LABELS_Y + 0.36), (x, EXITS_Y - 0.36), GAMMA)
        axes.text(x + 0.1, 0.62, f"γ·CE {k + 1}", color=GAMMA, fontsize=10)
    for teacher in range(EXITS):
        for student in range(teacher):
            start = (places[teacher] - 0.25, EXITS_Y - 0.34)
            arrow(axes, start, (places[student] + 0.3, EXITS_Y - 0.34), TEACH, bend=-0.28)
    middle = sum(places) / EXITS
    box(axes, middle, LABELS_Y, "labels of the training batch", "#eeeeee", width=places[-1] + 1.5)
    axes.text(
        places[-1] + 0.9, 2.35,
        "orange: every later exit teaches\nevery earlier one, γ·KD i→j",
        color=TEACH, fontsize=10.5, va="center",
    )  # fmt: skip
    axes.text(
        places[-1] + 0.9, 0.85,
        "γ, one weight per coloured arrow, is\nlearned: look one step ahead, judge\n"
        "all exits on a held-out batch, follow\nthe exact gradient",
        color=GAMMA, fontsize=10.5, va="center",
    )  # fmt: skip
    axes.text(
        places[-1] + 0.9, STAGES_Y,
        "in use: an easy image leaves\nat an early exit and costs less",
        color=LABEL, fontsize=10.5, va="center",
    )  # fmt: skip
    axes.set(xlim=(-2.2, places[-1] + 4.6), ylim=(-0.45, 4.05), aspect="auto")
    axes.axis("off")
    figure.savefig(file, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    draw(FILE)
