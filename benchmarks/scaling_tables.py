"""The report of benchmarks/scaling.py as tables in Markdown, as docs/scaling.md shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from communication_model import Machine

NAMES = {"plain": "plain", "default": "HDKD, γ every 2", "every_1": "HDKD, γ every step"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def scaling_table(report: dict[str, Any]) -> str:
    """Milliseconds per step and efficiency."""
    rows = []
    for mode, row in report["scaling"].items():
        times = [row["seconds_1"], row["seconds_beside"], row["seconds_2"], *row["loss"].values()]
        shown = [f"{1000 * seconds:.1f}" for seconds in times]
        shares = [f"{100 * row[key]:.1f} %" for key in ("efficiency_beside", "efficiency")]
        rows.append([NAMES[mode], *shown[:3], *shares, *shown[3:]])
    head = "ms per step|1 rank|1 beside another|2 ranks|efficiency beside|efficiency of 2"
    return table([*head.split("|"), "loss: sharing", "sending", "waiting"], rows)


def traffic_table(report: dict[str, Any]) -> str:
    """Bytes per step."""
    keys = ("bytes_per_step", "model_bytes_per_step", "ring_bytes_per_step", "wire_bytes_per_step")
    rows = [
        [
            NAMES[mode],
            *(f"{row[key]:,.0f}" for key in keys),
            f"{row['wire_to_ring']:.4f}",
            "yes" if row["model_equals_count"] else "NO",
        ]
        for mode, row in report["traffic"].items()
    ]
    head = "bytes per step and rank|counted|model|ring of 2|loopback|loopback / ring"
    return table([*head.split("|"), "every call as modelled"], rows)


def calls_table(report: dict[str, Any], mode: str = "default") -> str:
    """The collectives of a mode."""
    rows = [
        [
            call["operation"],
            call["dtype"].removeprefix("torch."),
            f"{call['elements']:,}",
            f"{call['per_step']:g}",
            "yes" if call["waits"] else "no",
        ]
        for call in report["traffic"][mode]["calls"]
    ]
    return table([f"{NAMES[mode]}", "type", "elements", "per step", "the step waits"], rows)


def projection_table(report: dict[str, Any], mode: str) -> str:
    """One row per batch, one column per number of GPUs."""
    found = report["projection"][mode]
    gpus = sorted({row["gpus"] for row in found})
    rows = []
    for batch in sorted({row["batch"] for row in found}):
        cells = [
            f"{1000 * row['step_s']:.0f} · {100 * row['communication_share']:.0f} · "
            f"{100 * row['efficiency']:.0f}"
            for row in found
            if row["batch"] == batch
        ]
        rows.append([f"{batch:,}", *cells])
    return table([f"{NAMES[mode]}: batch", *(f"{n:,} GPUs" for n in gpus)], rows)


def print_tables(report: dict[str, Any], machine: Machine) -> None:
    """For people."""
    print(", ".join(f"{key} {value}" for key, value in report["setup"].items()), end="\n\n")
    print(scaling_table(report))
    print(traffic_table(report))
    print(calls_table(report))
    print(table(["assumption", "value", "meaning"], machine.table()))
    print(", ".join(f"{key} {value}" for key, value in report["modelled"].items()))
    print("\nms per step · % not computing · % efficiency\n")
    for mode in report["projection"]:
        print(projection_table(report, mode))
