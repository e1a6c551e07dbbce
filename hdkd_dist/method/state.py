"""γ and what adapts with it, E_k and the temperature: equal on all ranks to the bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.weights import OPTIMIZERS, Constraint, admissible, project


@dataclass
class LossWeights:
    """γ, how it learns, and what adapts with it.

    Attributes:
        gamma: γ, [n]; it changes in place, for its optimiser holds it.
        initial: γ₀, [n].
        exists: 1 where the method has the entry and 0 where γ stays 0, [n].
        optimizer: of γ; None: γ stays γ₀.
        constraint: where γ may be.
        temperature: T, without dimensions.
        annealing: whether T grows with the last exit's confidence.
        meta: L_val and its E_k.
        sum_curve: Σγ/Σγ₀ after so many steps, which a fixed γ follows as a control; None: it stays.
    """

    gamma: Tensor
    initial: Tensor
    exists: Tensor
    temperature: Tensor
    optimizer: torch.optim.Optimizer | None = None
    constraint: Constraint = "nonnegative"
    annealing: bool = False
    meta: MetaObjective = field(default_factory=MetaObjective)
    sum_curve: Callable[[int], float] | None = None

    @property
    def learns(self) -> bool:
        """Whether γ moves by its hypergradient."""
        return self.optimizer is not None

    @property
    def rate(self) -> float | None:
        """ε, γ's learning rate; None where γ does not learn."""
        return None if self.optimizer is None else self.optimizer.param_groups[0]["lr"]

    def step(self, gradient: Tensor) -> None:
        """Move γ to project(γ − ε·∂L_val/∂γ) (Alg. 1), in place.

        Args:
            gradient: the hypergradient, [n].

        Raises:
            ValueError: if γ does not learn.
        """
        if self.optimizer is None:
            raise ValueError("this γ does not learn: choose a method whose γ does, such as hdkd")
        self.gamma.grad = admissible(gradient, self.exists, self.constraint)
        self.optimizer.step()
        with torch.no_grad():
            self.gamma.copy_(project(self.gamma, self.initial, self.constraint))

    def follow(self, step: int) -> None:
        """Bring a fixed γ to the size that another run's had after ``step`` steps, where asked."""
        if self.sum_curve is not None:
            torch.mul(self.initial, self.sum_curve(step), out=self.gamma)

    @property
    def sum_ratio(self) -> Tensor:
        """Σγ/Σγ₀: how much of γ's change is a change of the loss's size."""
        return self.gamma.sum() / self.initial.sum()

    @property
    def replica(self) -> Tensor:
        """All that ranks must hold alike in one vector, γ first."""
        return torch.cat([self.gamma, self.temperature.view(1), *self.meta.replica])

    def state_dict(self) -> dict[str, Any]:
        """Return what changes while training, and γ₀."""
        return {
            "gamma": self.gamma,
            "initial": self.initial,
            "temperature": self.temperature,
            "gamma_optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            **self.meta.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; γ in place."""
        device = self.gamma.device
        self.gamma.copy_(state["gamma"])
        self.initial.copy_(state["initial"])
        self.temperature = state["temperature"].to(device)
        self.meta.load_state_dict(state, device)
        if self.optimizer is not None and state["gamma_optimizer"] is not None:
            self.optimizer.load_state_dict(state["gamma_optimizer"])


def start_weights(
    initial: Tensor,
    exists: Tensor,
    *,
    optimizer: str | None = "sgd",
    rate: float = 0.1,
    constraint: Constraint = "nonnegative",
    temperature: float = 3.0,
    annealing: bool = False,
    meta: MetaObjective | None = None,
) -> LossWeights:
    """Start γ at γ₀.

    Args:
        initial: γ₀, [n].
        exists: see :class:`LossWeights`, [n].
        optimizer: a key of ``OPTIMIZERS``; None: γ stays.
        rate: ε, γ's learning rate.
        constraint: where γ may be.
        temperature: T, at the start where it anneals.
        annealing: whether T grows with the last exit's confidence.
        meta: what γ is judged by.
    """
    gamma = initial.clone()
    return LossWeights(
        gamma=gamma,
        initial=initial,
        exists=exists,
        temperature=torch.tensor(temperature, dtype=torch.float32, device=initial.device),
        optimizer=None if optimizer is None else OPTIMIZERS[optimizer]([gamma], lr=rate),
        constraint=constraint,
        annealing=annealing,
        meta=meta or MetaObjective(),
    )
