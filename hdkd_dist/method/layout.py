"""Which loss stands where in the loss vector ℓ."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossLayout:
    """The n = K + K(K−1)/2 entries of ℓ, and of γ: CE_1..CE_K, then KD_{i→j} for teacher i > j.

    The distillation entries are the strictly lower triangle of a [K, K] matrix (row teacher,
    column student), row by row: 2→1, 3→1, 3→2, 4→1, ….
    """

    num_exits: int

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(teacher, student) of every distillation entry, 0-based, in order."""
        return [(i, j) for i in range(self.num_exits) for j in range(i)]

    @property
    def names(self) -> list[str]:
        """A name for every entry, counting exits from 1: ``ce_1``, …, ``kd_2_to_1``, …."""
        cross_entropies = [f"ce_{k + 1}" for k in range(self.num_exits)]
        return cross_entropies + [f"kd_{i + 1}_to_{j + 1}" for i, j in self.pairs]

    def __len__(self) -> int:
        return self.num_exits * (self.num_exits + 1) // 2

    def join(self, ce: Tensor, kd: Tensor) -> Tensor:
        """[K] and [K, K] (row teacher, column student) → [n]; other parts of ``kd`` are ignored."""
        teachers, students = torch.tril_indices(
            self.num_exits, self.num_exits, offset=-1, device=kd.device
        )
        return torch.cat([ce, kd[teachers, students]])

    def split(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """[n] → [K] and [K, K], zero where no entry exists."""
        ce, pairs = entries[: self.num_exits], entries[self.num_exits :]
        kd = entries.new_zeros(self.num_exits, self.num_exits)
        teachers, students = torch.tril_indices(
            self.num_exits, self.num_exits, offset=-1, device=entries.device
        )
        kd[teachers, students] = pairs
        return ce, kd
