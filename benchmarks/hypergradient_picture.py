"""Time and memory of each way to take a step of γ, beside a plain training step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hdkd_dist.runs.pictures import drawing

NOT_EXACT = ("finite_difference", "betty")
LABELS = {
    "default": "this project's default: online, every 2nd step",
    "online": "online",
    "lookahead": "look-ahead",
    "finite_difference": "look-ahead, finite difference",
    "second_order": "look-ahead, double backward",
}
OURS, OTHERS, INEXACT = "#08519c", "#9ecae1", "#fdae6b"


def draw(report: dict[str, Any], file: Path) -> None:
    """Draw the contestants of ``hypergradient.py --json``."""
    rows = report["contestants"]
    names = [name for name in reversed(rows) if not name.startswith("plain")]
    first_other = list(rows).index("finite_difference")
    colours = {name: OURS if k < first_other else OTHERS for k, name in enumerate(rows)}
    colours |= dict.fromkeys(NOT_EXACT, INEXACT)
    with drawing(file, 10, 4, ncols=2, sharey=True) as (figure, panels):
        titles = {"ratio": "seconds per step", "memory_ratio": "peak memory"}
        for axes, (key, title) in zip(panels, titles.items(), strict=True):
            values = [rows[name][key] for name in names]
            labels = [LABELS.get(name, name) for name in names]
            bars = axes.barh(labels, values, color=[colours[name] for name in names])
            axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
            axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
            axes.set_xlabel(f"{title}, × plain training step")
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(x=0.1)
        legend = {"this project": OURS, "exact, by double backward": OTHERS, "not exact": INEXACT}
        handles = [panels[0].barh(labels[0], 0, color=colour) for colour in legend.values()]
        figure.legend(
            handles, legend, fontsize=8, frameon=False, ncols=3, loc="outside lower center"
        )
        setup = report["setup"]
        figure.suptitle(
            f"{setup['preset']}, batch {setup['batch']}, {setup['threads']} CPU threads, "
            f"medians of {setup['rounds']}",
            fontsize=10,
        )
