"""γ: the seven methods of the paper as rows of one table, where γ starts, and how it learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hdkd_dist.method.objective import LossLayout

Teachers = Literal["none", "last", "all_later"]
KdShare = Literal["per_student", "per_pair"]
Constraint = Literal["none", "nonnegative", "fixed_sum", "fixed_norm"]


@dataclass(frozen=True)
class Method:
    """One row of the paper's comparison."""

    title: str  # as the paper writes it
    teachers: Teachers  # who teaches an exit
    learns: bool  # whether γ is learned
    gradient_equilibrium: bool = False


METHODS: dict[str, Method] = {
    "msdnet": Method("MSDNet", "none", learns=False),
    "dbt": Method("DBT", "last", learns=False),
    "impr": Method("Impr", "last", learns=False, gradient_equilibrium=True),
    "naive_dkd": Method("NaiveDKD", "all_later", learns=False),
    "hmsdnet": Method("HMSDNet", "none", learns=True),
    "hdbt": Method("HDBT", "last", learns=True),
    "hdkd": Method("HDKD", "all_later", learns=True),
}


def teaching_pairs(teachers: Teachers, num_exits: int) -> Tensor:
    """[K, K], 1 where exit i (row) teaches exit j (column)."""
    if teachers == "none":
        return torch.zeros(num_exits, num_exits)
    later = torch.ones(num_exits, num_exits).tril(diagonal=-1)
    if teachers == "last":
        later[:-1] = 0
    return later


def existing_entries(method: Method, num_exits: int) -> Tensor:
    """[n], 1 where the method has the entry of γ and 0 where it stays 0 for ever."""
    layout = LossLayout(num_exits)
    return layout.join(torch.ones(num_exits), teaching_pairs(method.teachers, num_exits))


def ds_like(method: Method, num_exits: int, kd_weight: float, kd_share: KdShare) -> Tensor:
    """γ₀ in which every existing teacher teaches equally, [n]; CE entries are 1.

    ``per_student`` gives γ_ij = λ / (number of teachers of j), ``per_pair`` γ_ij = λ (Eq. 4).
    """
    teaches = teaching_pairs(method.teachers, num_exits)
    share = teaches.sum(dim=0).clamp(min=1) if kd_share == "per_student" else 1
    return LossLayout(num_exits).join(torch.ones(num_exits), kd_weight * teaches / share)


def dbt_like(method: Method, num_exits: int, kd_weight: float) -> Tensor:
    """γ₀ in which only the last exit teaches, with weight λ, [n]; the other entries start at 0."""
    teaches = teaching_pairs(method.teachers, num_exits)
    teaches[:-1] = 0
    return LossLayout(num_exits).join(torch.ones(num_exits), kd_weight * teaches)


def random_weights(method: Method, num_exits: int, seed: int) -> Tensor:
    """Draw γ₀: the existing entries, cross-entropies included, uniform in [0, 1), [n]."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(LossLayout(num_exits)), generator=generator)
    return uniform * existing_entries(method, num_exits)


def random_same_sum(method: Method, num_exits: int, initial: Tensor, seed: int) -> Tensor:
    """Draw a random γ₀ with the sum of ``initial``, [n], so that it starts with a loss as large.

    A plain random start halves Σγ₀, and with it every step: what that costs is not due to the
    proportions.
    """
    drawn = random_weights(method, num_exits, seed)
    return drawn * (initial.sum() / drawn.sum())


def project(gamma: Tensor, initial: Tensor, constraint: Constraint) -> Tensor:
    """γ after a step, brought back to where it may be, [n].

    ``none`` is the paper's; ``nonnegative`` cuts at 0; ``fixed_sum`` also restores Σγ₀. So does
    ``fixed_norm`` with ‖∇L_train‖, which needs the network: see ``Algorithm.keep_norm``.
    """
    if constraint == "none":
        return gamma
    positive = gamma.clamp(min=0)
    if constraint in ("nonnegative", "fixed_norm"):
        return positive
    tiny = torch.finfo(gamma.dtype).tiny
    return positive * (initial.sum() / positive.sum().clamp(min=tiny))


def admissible(gradient: Tensor, exists: Tensor, constraint: Constraint) -> Tensor:
    """Give the part of the hypergradient along which γ may move, [n].

    Entries that do not exist get 0. Under ``fixed_sum`` the mean over the existing entries is
    removed first: it only asks for a larger or a smaller sum, which the constraint forbids.
    """
    if constraint == "fixed_sum":
        gradient = gradient - (gradient * exists).sum() / exists.sum()
    return gradient * exists


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,  # plain gradient descent with rate ε, as in Alg. 1
    "adam": torch.optim.Adam,
}
