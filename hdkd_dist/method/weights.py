"""γ: the seven methods of the paper as rows of one table, where γ starts, and how it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hdkd_dist.method.objective import LossLayout

Pattern = Literal["none", "last", "next", "all_later"]
Teachers = Pattern | Sequence[Sequence[float]]  # by name, or a matrix (row teacher, column student)
KdShare = Literal["per_student", "per_pair"]
Constraint = Literal["none", "nonnegative", "fixed_sum", "fixed_norm"]


@dataclass(frozen=True)
class Method:
    """Say in one row what a method is: who teaches whom, and whether γ learns."""

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


def nobody(num_exits: int) -> Tensor:
    """Let no exit teach, [K, K]."""
    return torch.zeros(num_exits, num_exits)


def all_later(num_exits: int) -> Tensor:
    """Let every exit teach all before it, [K, K]."""
    return torch.ones(num_exits, num_exits).tril(diagonal=-1)


def last_exit(num_exits: int) -> Tensor:
    """Let the last exit teach all others, [K, K]."""
    pairs = all_later(num_exits)
    pairs[:-1] = 0
    return pairs


def next_exit(num_exits: int) -> Tensor:
    """Let every exit teach the one before it, [K, K]."""
    pairs = all_later(num_exits)
    return pairs - pairs.tril(diagonal=-2)


TEACHERS: dict[Pattern, Callable[[int], Tensor]] = {
    "none": nobody,
    "last": last_exit,
    "next": next_exit,
    "all_later": all_later,
}


def teaching_pairs(teachers: Teachers, num_exits: int) -> Tensor:
    """Give who teaches whom, [K, K]: row teacher, column student.

    Args:
        teachers: a key of ``TEACHERS``, which gives 1 where exit i teaches exit j and 0 elsewhere;
            or the matrix itself, whose entries multiply λ.
        num_exits: K.

    Raises:
        ValueError: for a matrix of another size, or one in which an exit teaches a later one.
    """
    if isinstance(teachers, str):
        return TEACHERS[teachers](num_exits)
    sizes = {len(teachers), *map(len, teachers)}
    if sizes != {num_exits}:
        raise ValueError(
            f"hdkd.loss.teachers must be a matrix of {num_exits}×{num_exits} numbers, one row per "
            f"teacher, for a network of {num_exits} exits"
        )
    pairs = torch.tensor(teachers, dtype=torch.float32)
    if pairs.triu().any():
        raise ValueError(
            "hdkd.loss.teachers: only a later exit can teach an earlier one: set the diagonal and "
            "what lies above it to 0 (rows are teachers, columns students)"
        )
    return pairs


def existing_entries(method: Method, num_exits: int) -> Tensor:
    """Give [n], 1 where the method has the entry of γ and 0 where it stays 0 for ever."""
    exist = (teaching_pairs(method.teachers, num_exits) != 0).float()
    return LossLayout(num_exits).join(torch.ones(num_exits), exist)


def ds_like(method: Method, num_exits: int, kd_weight: float, kd_share: KdShare) -> Tensor:
    """Give γ₀ in which every existing teacher teaches equally, [n]; CE entries are 1.

    ``per_student`` gives γ_ij = λ / (number of teachers of j), ``per_pair`` γ_ij = λ (Eq. 4); a
    matrix of one's own multiplies both.
    """
    teaches = teaching_pairs(method.teachers, num_exits)
    share = (teaches != 0).sum(dim=0).clamp(min=1) if kd_share == "per_student" else 1
    return LossLayout(num_exits).join(torch.ones(num_exits), kd_weight * teaches / share)


def dbt_like(method: Method, num_exits: int, kd_weight: float) -> Tensor:
    """Give γ₀ in which only the last exit teaches, with weight λ, [n]; the others start at 0."""
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
    """Bring γ back to where it may be after a step, [n].

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
    """Keep the part of the hypergradient along which γ may move, [n].

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
