"""Compare two finished runs: the numerical proof that a change of the code owes.

    python benchmarks/same_run.py BEFORE AFTER

Compares parameters, γ, and every value of metrics.jsonl that does not measure the machine
(as speed does). Exit status 0: equal to the bit; 1: not equal, with the largest difference of each.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from hdkd_dist.runs.metrics import METRICS
from hdkd_dist.runs.names import IMAGES_PER_S, WAITING
from hdkd_dist.runs.network import WEIGHTS

OF_THE_MACHINE = (IMAGES_PER_S, WAITING, "peak_memory_mb")


def parameters(run: Path) -> dict[str, torch.Tensor]:
    """Read the trained parameters and running statistics, flat, by name."""
    return {name: value.flatten() for name, value in load_file(run / WEIGHTS).items()}


def gamma(run: Path) -> dict[str, torch.Tensor]:
    """Read γ at the start and at the end, flat, by name."""
    found = json.loads((run / "results.json").read_text(encoding="utf-8"))["gamma"]
    sets = {"initial": found["initial"], "final": found}
    return {
        f"{when} {kind}": torch.tensor(values[kind], dtype=torch.float64).flatten()
        for when, values in sets.items()
        for kind in ("ce", "kd")
    }


def records(run: Path) -> dict[str, torch.Tensor]:
    """Read each measured value over the run, by event and name."""
    columns: dict[str, list[float]] = {}
    for line in (run / METRICS).read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        for name, value in event.items():
            if name not in OF_THE_MACHINE and isinstance(value, int | float):
                columns.setdefault(f"{event['event']} {name}", []).append(value)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}


def differences(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, float]]:
    """Give what differs and by how much: relative to the largest value; inf for another shape."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None or new is None or old.shape != new.shape:
            yield name, float("inf")
        elif not torch.equal(old, new):
            difference = (old.double() - new.double()).abs().max()
            yield name, float(difference / old.double().abs().max().clamp(min=1e-300))


def main() -> None:
    """Compare the runs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    equal = True
    readers: dict[str, Any] = {"parameters": parameters, "γ": gamma, METRICS: records}
    for what, read in readers.items():
        before = read(given.before)
        found = dict(differences(before, read(given.after)))
        equal &= not found
        if not found:
            print(f"{what}: equal to the bit ({len(before)} names)")
        else:
            worst = max(found, key=found.__getitem__)
            print(
                f"{what}: {len(found)} of {len(before)} names differ; most {worst}, by "
                f"{found[worst]:.1e} of its largest value"
            )
    sys.exit(not equal)


if __name__ == "__main__":
    main()
