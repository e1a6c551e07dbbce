"""How far a run has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from hdkd_dist.training.meter import Meter
from hdkd_dist.training.pace import Pace


@dataclass
class Progress:
    """The position of a run, which moves as it trains.

    The streams are functions of (seed, position): with θ, γ, their optimisers and each rank's
    running statistics this is all that the rest of a run depends on.
    """

    meter: Meter  # measurements since the last record
    pace: Pace = field(default_factory=Pace)
    step: int = 0  # optimiser steps taken
    epoch: int = 0  # epochs trained and evaluated; step may be at the end of the next
    metaval_batches: int = 0  # drawn from the meta-validation stream
    validation: Tensor | None = None  # of the last evaluated epoch: see count_correct
