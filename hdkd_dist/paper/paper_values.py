"""What the paper prints, by study, block and row: accuracy per exit, in percent.

None of its numbers stand here yet, for the paper's text was not at hand; tables then show "not
known" instead of guesses. An entry is

    ("2", "CIFAR(150)", "HDKD"): Printed("top1", (…, …)),

with one number for each exit of the network of the scale ``paper``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A row of one of the paper's tables."""

    metric: str  # top1 or top5
    exits: tuple[float, ...]


PRINTED: Mapping[tuple[str, str, str], Printed] = {}
