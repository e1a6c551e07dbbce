"""The picture of benchmarks/scaling.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling_tables import NAMES

from hdkd_dist.runs.pictures import drawing

PARTS = {
    "sharing": "sharing caches, memory, clock",
    "sending": "sending",
    "waiting": "waiting, copying",
}


def draw(report: dict[str, Any], file: Path) -> None:
    """Where a step on two ranks spends its time, and the model's efficiency on many GPUs."""
    with drawing(file, 12, 3.6, ncols=2) as (_, (measured, modelled)):
        modes = list(report["scaling"])
        alone = [1000 * report["scaling"][mode]["seconds_1"] for mode in modes]
        measured.barh(modes, alone, color="#9ecae1", label="one rank alone")
        left = alone
        for part, colour in zip(PARTS, ("#6baed6", "#e6550d", "#fdae6b"), strict=True):
            width = [max(0.0, 1000 * report["scaling"][m]["loss"][part]) for m in modes]
            measured.barh(modes, width, left=left, color=colour, label=PARTS[part])
            left = [a + b for a, b in zip(left, width, strict=True)]
        for place, mode in enumerate(modes):
            efficiency = 100 * report["scaling"][mode]["efficiency"]
            measured.annotate(f" {efficiency:.0f} %", (left[place], place), va="center")
        measured.set_yticks(range(len(modes)), [NAMES[mode] for mode in modes])
        measured.set_xlim(0, 1.15 * max(left))
        measured.set_xlabel("ms per step on two ranks, and efficiency")
        setup = report["setup"]
        measured.set_title(f"measured: {setup['preset']}, {setup['micro_batch']} images per rank")
        measured.legend(loc="lower right", fontsize=8)
        for mode, style in (("plain", "--"), ("default", "-")):
            rows = report["projection"][mode]
            for colour, batch in zip(("C0", "C1", "C2"), (1024, 4096, 16384), strict=True):
                of_batch = [row for row in rows if row["batch"] == batch]
                modelled.plot(
                    [row["gpus"] for row in of_batch],
                    [100 * row["efficiency"] for row in of_batch],
                    style,
                    color=colour,
                    marker=".",
                    label=f"{NAMES[mode]}, batch {batch:,}",
                )
        modelled.set_xscale("log", base=2)
        modelled.set_xticks(gpus := [row["gpus"] for row in of_batch], [str(n) for n in gpus])
        modelled.set_ylim(0, 105)
        modelled.set_xlabel("GPUs")
        modelled.set_ylabel("efficiency (%)")
        modelled.set_title(f"modelled: {report['modelled']['preset']}")
        modelled.legend(loc="upper left", bbox_to_anchor=(1, 1))
