"""What is learned or adapts besides θ: the loss weights γ, the averages E_k, the temperature T."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hdkd_dist.config.settings import Settings
from hdkd_dist.distributed import ranks
from hdkd_dist.method.objective import LossLayout
from hdkd_dist.method.weights import (
    METHODS,
    OPTIMIZERS,
    Method,
    dbt_like,
    ds_like,
    existing_entries,
    random_weights,
)
from hdkd_dist.runs.gamma_curve import SumCurve, read_sum_curve


@dataclass
class Harmony:
    """Replicated on every rank, equal to the bit."""

    gamma: Tensor  # γ, [n]
    initial: Tensor  # γ₀, [n]
    exists: Tensor  # 1 where the method has the entry, [n]
    optimizer: torch.optim.Optimizer | None  # of γ; None: γ stays γ₀
    temperature: Tensor  # T, without dimensions
    average_ce: Tensor | None = None  # E_k, [K]; None before the first observation
    replayed: SumCurve | None = None  # the Σγ/Σγ₀ that γ follows; None: its own

    def follow(self, step: int) -> None:
        """Bring γ to the size that a replayed run had after ``step`` steps, if there is one."""
        if self.replayed is not None:
            torch.mul(self.initial, self.replayed.at(step), out=self.gamma)

    @property
    def sum_ratio(self) -> Tensor:
        """Σγ/Σγ₀: how much of γ's change is a change of the loss's size."""
        return self.gamma.sum() / self.initial.sum()

    @property
    def replica(self) -> Tensor:
        """Everything in one vector, for comparing ranks."""
        averages = [] if self.average_ce is None else [self.average_ce]
        return torch.cat([self.gamma, self.temperature.view(1), *averages])

    def record(self, layout: LossLayout) -> dict[str, Any]:
        """γ at the start and now, as CE [K] and KD [K, K] (row teacher, column student)."""

        def parts(gamma: Tensor) -> dict[str, Any]:
            ce, kd = layout.split(gamma.cpu())
            return {"ce": ce.tolist(), "kd": kd.tolist()}

        ratio = {"sum_ratio": float(self.sum_ratio)}
        return {"initial": parts(self.initial), **parts(self.gamma), **ratio}


def replicate(harmony: Harmony) -> Tensor:
    """All-reduce γ, and compare γ, E_k and T between ranks; returns the largest difference."""
    agreed, drift = ranks.agree(harmony.replica)
    harmony.gamma.copy_(agreed[: len(harmony.gamma)])
    return drift


def start_harmony(settings: Settings, num_exits: int, device: torch.device) -> Harmony:
    """γ₀, its optimiser, and T₀ of a run.

    Raises:
        ValueError: if the run named by ``fixed:<file>`` has no γ of this network.
    """
    method = METHODS[settings.method]
    initial = initial_weights(settings, method, num_exits).to(device)
    gamma = initial.clone()
    learns = settings.gamma_learns
    make_optimizer = OPTIMIZERS[settings.gamma.optimizer]
    temperature = 1.0 if settings.loss.temperature == "anneal" else settings.loss.temperature
    return Harmony(
        gamma=gamma,
        initial=initial,
        exists=existing_entries(method, num_exits).to(device),
        optimizer=make_optimizer([gamma], lr=settings.gamma.lr) if learns else None,
        temperature=torch.tensor(temperature, dtype=torch.float32, device=device),
        replayed=replayed_curve(settings, learns),
    )


def replayed_curve(settings: Settings, learns: bool) -> SumCurve | None:
    """The Σγ/Σγ₀ that the run replays, as ``hdkd.gamma.replay_sum`` says."""
    run = settings.gamma.replay_sum
    if run is None:
        return None
    if learns:
        raise ValueError(
            f"hdkd.gamma.replay_sum is {run} but {settings.method} learns γ: replay it in a method "
            "with fixed weights"
        )
    return read_sum_curve(Path(run))


def initial_weights(settings: Settings, method: Method, num_exits: int) -> Tensor:
    """γ₀, [n], as ``hdkd.gamma.init`` says."""
    kind, _, file = settings.gamma.init.partition(":")
    loss = settings.loss
    if kind == "ds_like":
        return ds_like(method, num_exits, loss.kd_weight, loss.kd_share)
    if not method.learns:
        raise ValueError(
            f"hdkd.gamma.init is {settings.gamma.init} but {settings.method} has fixed weights, "
            "which define it: use ds_like, or a method that learns γ"
        )
    if kind == "dbt_like":
        return dbt_like(method, num_exits, loss.kd_weight)
    if kind == "random":
        return random_weights(method, num_exits, settings.run.seed)
    weights = learned_weights(Path(file), num_exits)
    if (weights * (1 - existing_entries(method, num_exits))).any():
        raise ValueError(
            f"hdkd.gamma.init: {file} has weights that {settings.method} has not: "
            "name a run of the same method"
        )
    return weights


def learned_weights(path: Path, num_exits: int) -> Tensor:
    """γ at the end of a finished run, [n], from its ``results.json`` or its folder."""
    file = path / "results.json" if path.is_dir() else path
    try:
        gamma = json.loads(file.read_text(encoding="utf-8"))["gamma"]
        ce, kd = torch.tensor(gamma["ce"]), torch.tensor(gamma["kd"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"hdkd.gamma.init: no γ can be read from {file} ({error}): "
            "name the results.json of a finished run"
        ) from None
    if ce.shape != (num_exits,) or kd.shape != (num_exits, num_exits):
        raise ValueError(
            f"hdkd.gamma.init: {file} holds the γ of {len(ce)} exits, "
            f"but the network has {num_exits}"
        )
    return LossLayout(num_exits).join(ce, kd)
