"""Print what the presets cost: ``python -m hdkd_dist.models [--json]``."""

from __future__ import annotations

import dataclasses
from json import dumps
from typing import TYPE_CHECKING

from hdkd_dist import cli

if TYPE_CHECKING:
    from hdkd_dist.models.costs import ExitCosts


def main(json: bool = False) -> None:
    """Print multiply-adds and parameters of every preset, up to and including each exit.

    Args:
        json: print one JSON object, preset → {"mmac": [...], "params": [...]}, and no table.
    """
    from hdkd_dist.models.presets import PRESETS

    costs = {name: preset_costs(name) for name in PRESETS}
    if json:
        print(dumps({name: dataclasses.asdict(cost) for name, cost in costs.items()}))
    else:
        print(table(costs))


def preset_costs(name: str) -> ExitCosts:
    """Count the costs of a preset, for its own input size and number of classes."""
    import torch

    from hdkd_dist.models.costs import exit_costs
    from hdkd_dist.models.presets import PRESETS, build

    with torch.device("meta"):
        network = build(name)
    return exit_costs(network, PRESETS[name].input_size)


def table(costs: dict[str, ExitCosts]) -> str:
    """Lay ``costs`` out as lines of preset, image side, exit (1-based), MMAC and parameters."""
    from hdkd_dist.models.presets import PRESETS

    lines = [f"{'preset':<20}{'pixels':>7}{'exit':>5}{'MMAC':>10}{'parameters':>14}"]
    for name, cost in costs.items():
        size = PRESETS[name].input_size
        for number, (mmac, params) in enumerate(zip(cost.mmac, cost.params, strict=True), start=1):
            lines.append(f"{name:<20}{size:>7}{number:>5}{mmac:>10.2f}{params:>14,}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
