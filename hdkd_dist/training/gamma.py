"""γ and Algorithm 1 as a run's configuration has them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from hdkd_dist.config.deepspeed import look_ahead_for
from hdkd_dist.config.settings import GammaSettings, LossSettings, Settings
from hdkd_dist.distributed import ranks
from hdkd_dist.files.strict_json import read_json
from hdkd_dist.method.algorithm import Algorithm
from hdkd_dist.method.engines import Engine
from hdkd_dist.method.functional import Prepare, buffers_read
from hdkd_dist.method.graphs import CudaCapture, Graphs
from hdkd_dist.method.hypergradient import Mean
from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.objective import LossFunction, LossLayout, loss_vector, with_terms
from hdkd_dist.method.state import LossWeights, start_weights
from hdkd_dist.method.weights import (
    METHODS,
    Method,
    dbt_like,
    ds_like,
    existing_entries,
    random_same_sum,
    random_weights,
)
from hdkd_dist.models.factory import import_callable
from hdkd_dist.models.network import MultiExitNetwork
from hdkd_dist.runs.folder import RESULTS
from hdkd_dist.runs.gamma_curve import read_sum_curve
from hdkd_dist.runs.results import GammaEntries, GammaRecord

REACH = 0.5  # about as far as Adam may move a weight in a whole training, by default


def configured_weights(
    settings: Settings, num_exits: int, steps: int, device: torch.device
) -> LossWeights:
    """Start γ, its optimiser, L_val and T as a configuration says.

    Args:
        settings: the section "hdkd".
        num_exits: K.
        steps: of θ in the whole training.
        device: of γ.

    Raises:
        ValueError: if the run named by ``fixed:<file>`` or ``replay_sum`` has no γ of this network.
    """
    method, gamma = configured_method(settings), settings.gamma
    temperature = settings.loss.temperature
    terms = settings.loss.terms
    weights = start_weights(
        initial_weights(settings, method, num_exits).to(device),
        torch.cat([existing_entries(method, num_exits), torch.ones(len(terms))]).to(device),
        optimizer=gamma.optimizer if settings.gamma_learns else None,
        rate=gamma_rate(gamma, steps),
        constraint=gamma.constraint,
        temperature=1.0 if temperature == "anneal" else temperature,
        annealing=temperature == "anneal",
        meta=MetaObjective(gamma.alpha, gamma.average_momentum, gamma.average_of),
    )
    if gamma.replay_sum is not None:
        if weights.learns:
            raise ValueError(
                f"hdkd.gamma.replay_sum is {gamma.replay_sum} but {settings.method} learns γ: "
                "replay it in a method with fixed weights"
            )
        weights.sum_curve = read_sum_curve(Path(gamma.replay_sum)).at
    return weights


def gamma_rate(gamma: GammaSettings, steps: int) -> float:
    """Give ε; by default Adam's, which gets smaller the more ``steps`` of θ a training has.

    A step of Adam is about as large as its rate, and labels' weights mostly move one way, up: at
    the same rate γ would go as far in a long training as there are steps.
    """
    if gamma.lr is not None:
        return gamma.lr
    return REACH / math.ceil(steps / gamma.every)


def configured_method(settings: Settings) -> Method:
    """Give the method's row, with the teachers that ``hdkd.loss.teachers`` names instead."""
    method, teachers = METHODS[settings.method], settings.loss.teachers
    return method if teachers is None else dataclasses.replace(method, teachers=teachers)


def initial_weights(settings: Settings, method: Method, num_exits: int) -> Tensor:
    """Give γ₀, [n], as ``hdkd.gamma.init`` says; that of further losses stands in their setting.

    Raises:
        ValueError: if the method's fixed weights define γ₀, or a run's γ does not fit.
    """
    kind, _, file = settings.gamma.init.partition(":")
    loss = settings.loss
    equal = ds_like(method, num_exits, loss.kd_weight, loss.kd_share)
    terms = torch.tensor(list(loss.terms.values()))
    if kind == "ds_like":
        return torch.cat([equal, terms])
    if not method.learns:
        raise ValueError(
            f"hdkd.gamma.init is {settings.gamma.init} but {settings.method} has fixed weights, "
            "which define it: use ds_like, or a method that learns γ"
        )
    if kind == "dbt_like":
        return torch.cat([dbt_like(method, num_exits, loss.kd_weight), terms])
    if kind == "random_same_sum":
        drawn = random_same_sum(method, num_exits, equal, settings.run.seed)
        return torch.cat([drawn, terms])
    if kind == "random":
        return torch.cat([random_weights(method, num_exits, settings.run.seed), terms])
    weights = learned_weights(Path(file), num_exits, loss.term_names)
    if (weights[: len(equal)] * (1 - existing_entries(method, num_exits))).any():
        raise ValueError(
            f"hdkd.gamma.init: {file} has weights that {settings.method} has not: "
            "name a run of the same method"
        )
    return weights


def learned_weights(path: Path, num_exits: int, terms: Sequence[str] = ()) -> Tensor:
    """Read γ at the end of a finished run, [n], from its ``results.json`` or its folder.

    Raises:
        ValueError: if there is none, or it is that of another number of exits or of other losses.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        gamma: GammaEntries = read_json(file)["gamma"]
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
    added = gamma.get("terms", {})
    if list(added) != list(terms):
        raise ValueError(
            f"hdkd.gamma.init: {file} has weights of the further losses {list(added)}, but "
            f"hdkd.loss.terms names {list(terms)}"
        )
    return torch.cat([LossLayout(num_exits).join(ce, kd), torch.tensor(list(added.values()))])


def build_algorithm(
    engine: Engine,
    weights: LossWeights,
    prepare: Prepare,
    settings: Settings,
    deepspeed: Mapping[str, Any],
    mean: Mean = ranks.mean_over_ranks,
) -> Algorithm:
    """Set Algorithm 1 up as a configuration says.

    Args:
        engine: around the network.
        weights: γ, E_k and T.
        prepare: stored images → what the network sees.
        settings: the configuration's "hdkd".
        deepspeed: the rest of it, with all batch sizes.
        mean: averages tensors over ranks.
    """
    gamma, device = settings.gamma, weights.gamma.device
    half = torch.bfloat16 if autocasts(deepspeed) and gamma.autocast else None
    return Algorithm(
        engine=engine,
        weights=weights,
        lookahead=look_ahead_for(gamma.lookahead, deepspeed),
        gradient_share=gradient_share(deepspeed["optimizer"]),
        prepare=prepare,
        arguments={"gradient_equilibrium": True} if equilibrates(settings) else {},
        losses=configured_losses(settings.loss),
        autocast=half,
        casts_together=isinstance(engine.module, MultiExitNetwork),
        scope=gamma.scope,
        takes_over=takes_over(settings, deepspeed),
        graphs=Graphs(CudaCapture()) if captures(settings, engine.module, device) else None,
        mean=mean,
    )


def configured_losses(loss: LossSettings) -> LossFunction:
    """Give ℓ, [n]: the paper's losses, and those that ``hdkd.loss.terms`` adds.

    Raises:
        ValueError: for a function that cannot be imported.
    """
    paper = partial(loss_vector, label_smoothing=loss.label_smoothing)
    terms = [import_callable(path, "loss") for path in loss.terms]
    return with_terms(paper, terms) if terms else paper


def check_terms(loss: LossSettings, num_exits: int, num_classes: int) -> None:
    """Refuse further losses that are no means over a batch: each is tried on random logits.

    Its derivative must be the same in forward mode, by which γ learns, and in reverse mode, by
    which θ does.

    Raises:
        ValueError: in one line, whatever a function raises.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (2, num_exits, 4, num_classes)
    point, direction = torch.randn(shape, generator=generator, dtype=torch.float64)
    logits, labels = point.clone().requires_grad_(), torch.arange(4) % num_classes
    for path in loss.terms:
        term = import_callable(path, "loss")
        try:
            value = term(logits, labels, torch.tensor(3.0))
            with forward_ad.dual_level():
                moving = forward_ad.make_dual(point, direction)
                moved = forward_ad.unpack_dual(term(moving, labels, torch.tensor(3.0))).tangent
        except Exception as error:  # the user's own code may raise anything
            reason = f"{type(error).__name__}: {error}".replace("\n", " ")
            raise ValueError(
                f"hdkd.loss.terms: {path} fails on logits {list(logits.shape)}, labels "
                f"{list(labels.shape)} and T: {reason}"
            ) from error
        if not (isinstance(value, Tensor) and value.ndim == 0 and value.requires_grad):
            raise ValueError(
                f"hdkd.loss.terms: {path} must give a tensor without dimensions that depends on "
                "the logits: a mean over the batch"
            )
        slope = (torch.autograd.grad(value, logits)[0] * direction).sum()
        if not torch.allclose(slope, torch.zeros_like(slope) if moved is None else moved):
            raise ValueError(
                f"hdkd.loss.terms: {path} has another derivative in forward mode: hold parts of it "
                "constant with detach(), for torch.no_grad() has no effect there"
            )


def equilibrates(settings: Settings) -> bool:
    """Tell whether training rescales the exits' gradients: as the method has it, or is told."""
    switch = settings.model.gradient_equilibrium
    return METHODS[settings.method].gradient_equilibrium if switch is None else switch


def autocasts(deepspeed: Mapping[str, Any]) -> bool:
    """Tell whether the training step runs in bf16 (``torch_autocast``)."""
    return deepspeed.get("torch_autocast", {}).get("enabled", False)


def gradient_share(optimizer: Mapping[str, Any]) -> float:
    """Give c in θ' = θ − cξ∇L_train + …, from DeepSpeed's "optimizer" section.

    The step of SGD with momentum μ adds to −ξ∇L_train only what is constant in γ: the past
    momentum and weight decay. Nesterov's takes the current gradient twice, 1 + μ in all.
    """
    params = optimizer.get("params", {})
    return 1 + params.get("momentum", 0.0) if params.get("nesterov") else 1.0


def takes_over(settings: Settings, deepspeed: Mapping[str, Any]) -> bool:
    """Tell whether the forward-mode pass may take over what the training pass has found.

    It is faster by a forward pass's convolutions and more. With accumulation it would cost much
    memory, a compiled pass has none to give, and both passes must have the same precision.
    """
    online = look_ahead_for(settings.gamma.lookahead, deepspeed) == "online"
    alike = settings.gamma.autocast or not autocasts(deepspeed) or not online
    compiled = settings.model.compile and online
    return deepspeed["gradient_accumulation_steps"] == 1 and alike and not compiled


def captures(settings: Settings, network: nn.Module, device: torch.device) -> bool:
    """Tell whether the passes become CUDA graphs.

    By default those of presets, for a network of the user's own may do in Python what a graph would
    not repeat. A pass that reads buffers, as spectral norm's does, is not captured.
    """
    wanted = settings.run.cuda_graphs
    if wanted is None:
        wanted = settings.model.preset is not None and not settings.model.compile
    return wanted and device.type == "cuda" and not buffers_read(network)


def replicate(weights: LossWeights) -> Tensor:
    """Make γ equal on all ranks, and return the largest difference of γ, E_k and T between them."""
    agreed, drift = ranks.agree(weights.replica)
    weights.gamma.copy_(agreed[: len(weights.gamma)])
    return drift


def gamma_record(
    weights: LossWeights, layout: LossLayout, sha256_by_rank: list[str]
) -> GammaRecord:
    """Give γ at the start and now for ``results.json``; ``sha256_by_rank``: of each rank's γ."""

    def entries(gamma: Tensor) -> GammaEntries:
        ce, kd = layout.split(gamma.cpu())
        values: GammaEntries = {"ce": ce.tolist(), "kd": kd.tolist()}
        if layout.terms:
            added = gamma[len(gamma) - len(layout.terms) :].tolist()
            values["terms"] = dict(zip(layout.terms, added, strict=True))
        return values

    return {
        "rate": weights.rate,
        "initial": entries(weights.initial),
        **entries(weights.gamma),
        "sum_ratio": float(weights.sum_ratio),
        "sha256_by_rank": sha256_by_rank,
    }
