"""The loss vector ℓ (Eqs. 1 and 2), its layout, and the temperature; L_train = γ·ℓ (Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class LossLayout:
    """The n = K + K(K−1)/2 entries of ℓ, and of γ: CE_1..CE_K, then KD_{i→j} for teacher i > j.

    The distillation entries are the strictly lower triangle of a [K, K] matrix (row teacher,
    column student), row by row: 2→1, 3→1, 3→2, 4→1, …. After them comes one entry for each loss
    that is added to the paper's, see :func:`with_terms`.

    Attributes:
        num_exits: K.
        terms: names of the added losses.
    """

    num_exits: int
    terms: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(teacher, student) of every distillation entry, 0-based, in order."""
        return [(i, j) for i in range(self.num_exits) for j in range(i)]

    @property
    def names(self) -> list[str]:
        """A name for every entry, counting exits from 1: ``ce_1``, …, ``kd_2_to_1``, …."""
        cross_entropies = [f"ce_{k + 1}" for k in range(self.num_exits)]
        distillation = [f"kd_{i + 1}_to_{j + 1}" for i, j in self.pairs]
        return [*cross_entropies, *distillation, *self.terms]

    def __len__(self) -> int:
        return self.num_exits * (self.num_exits + 1) // 2 + len(self.terms)

    def join(self, ce: Tensor, kd: Tensor) -> Tensor:
        """[K] and [K, K] (row teacher, column student) → [n] without terms.

        Other parts of ``kd`` are ignored.
        """
        teachers, students = torch.tril_indices(
            self.num_exits, self.num_exits, offset=-1, device=kd.device
        )
        return torch.cat([ce, kd[teachers, students]])

    def split(self, entries: Tensor) -> tuple[Tensor, Tensor]:
        """[n] → [K] and [K, K], zero where no entry exists; the terms are left out."""
        ce, pairs, _ = entries.split([self.num_exits, len(self.pairs), len(self.terms)])
        kd = entries.new_zeros(self.num_exits, self.num_exits)
        teachers, students = torch.tril_indices(
            self.num_exits, self.num_exits, offset=-1, device=entries.device
        )
        kd[teachers, students] = pairs
        return ce, kd


def loss_vector(
    logits: Tensor, labels: Tensor, temperature: Tensor | float, label_smoothing: float = 0.0
) -> Tensor:
    """Give all losses of a multi-exit network, means over the batch.

    CE_k is the cross-entropy of exit k. KD_{i→j} = −T² · mean_b Σ_c softmax(z_i/T)_c ·
    log_softmax(z_j/T)_c (Eq. 2, with teacher and student in Hinton's order) for every teacher
    i > student j; no gradient reaches the teacher. One matrix product yields all pairs.

    Args:
        logits: [K, B, C], exit by exit.
        labels: [B], class indices.
        temperature: T, a number or a tensor without dimensions.
        label_smoothing: of the cross-entropies, see :func:`cross_entropies`.

    Returns:
        ℓ, [n] in the order of :class:`LossLayout`, float32 or wider.
    """
    logits = full_precision(logits)
    num_exits, batch, _ = logits.shape
    ce = cross_entropies(logits, labels, label_smoothing)
    teachers = F.softmax(logits.detach() / temperature, dim=-1)
    students = F.log_softmax(logits / temperature, dim=-1)
    kd = -(temperature**2) * (teachers.flatten(1) @ students.flatten(1).T) / batch
    return LossLayout(num_exits).join(ce, kd)


def cross_entropies(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Give CE_1..CE_K (Eq. 1), [K], means over the batch.

    Args:
        logits: [K, B, C].
        labels: [B], class indices.
        label_smoothing: the share of the target that is spread evenly over all C classes (Szegedy
            et al. 2016, arXiv 1512.00567).
    """
    log_probabilities = F.log_softmax(full_precision(logits), dim=-1)
    chosen = labels.expand(logits.shape[0], -1).unsqueeze(-1)
    ce = -log_probabilities.gather(-1, chosen).squeeze(-1).mean(dim=1)
    if not label_smoothing:
        return ce
    spread = -log_probabilities.mean(dim=-1).mean(dim=1)
    return (1 - label_smoothing) * ce + label_smoothing * spread


LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""ℓ, [n], or a single loss, without dimensions: of logits [K, B, C], labels [B] and T."""


def with_terms(losses: LossFunction, terms: Sequence[LossFunction]) -> LossFunction:
    """Return ``losses`` with an entry more for each of ``terms``, each with a weight of its own.

    Args:
        losses: gives [n].
        terms: each gives a mean over the batch, a tensor without dimensions; it gets the logits in
            float32 or wider, and γ's derivative goes through whatever torch can differentiate.
    """

    def longer(logits: Tensor, labels: Tensor, temperature: Tensor) -> Tensor:
        logits = full_precision(logits)
        added = [term(logits, labels, temperature).reshape(1) for term in terms]
        return torch.cat([losses(logits, labels, temperature), *added])

    return longer


def full_precision(values: Tensor) -> Tensor:
    """Convert to float32 (float64 stays): losses are never taken in half precision."""
    return values if values.dtype == torch.float64 else values.float()


GROWTH = 1.05  # per step
CONFIDENT = 0.5


def confidence(logits: Tensor, temperature: Tensor) -> Tensor:
    """Mean maximal probability of the last exit at temperature T; logits [K, B, C]."""
    probabilities = F.softmax(logits[-1].detach().float() / temperature, dim=-1)
    return probabilities.amax(dim=-1).mean()


def anneal(temperature: Tensor, last_exit_confidence: Tensor) -> Tensor:
    """T after a step (Phuong & Lampert 2019): ×1.05 while the last exit is confident.

    Args:
        temperature: T, without dimensions.
        last_exit_confidence: :func:`confidence` averaged over the whole batch (all ranks).
    """
    return torch.where(last_exit_confidence > CONFIDENT, temperature * GROWTH, temperature)
