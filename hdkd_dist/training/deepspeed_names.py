"""Misspelt names in DeepSpeed's part of a configuration, which it would ignore or choke on."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

# Top-level keys that a run may want; DeepSpeed ignores a key that it does not know.
KEYS = (
    "activation_checkpointing",
    "checkpoint",
    "comms_logger",
    "communication_data_type",
    "compile",
    "csv_monitor",
    "dump_state",
    "flops_profiler",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "gradient_predivide_factor",
    "memory_breakdown",
    "optimizer",
    "prescale_gradients",
    "seq_parallel_communication_data_type",
    "sparse_gradients",
    "steps_per_print",
    "tensorboard",
    "timers",
    "torch_autocast",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "wall_clock_breakdown",
    "wandb",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "zero_optimization",
)
# Optimisers of its own, in any case; it takes all others from torch.optim, by their exact names.
OWN_OPTIMIZERS = ("adagrad", "adam", "adamw", "lamb", "lion", "muadam", "muadamw", "muon", "musgd")
SIMILAR = 0.85  # from this on a key that is not in the list is taken for a misspelt one


def check_names(deepspeed: Mapping[str, Any], path: str | Path) -> None:
    """Refuse what looks like a misspelt key, and optimisers and arguments that do not exist.

    Raises:
        ValueError: with the nearest known name.
    """
    for key in sorted(deepspeed.keys() - set(KEYS)):
        if near := difflib.get_close_matches(key, KEYS, n=1, cutoff=SIMILAR):
            raise ValueError(f"{path}: {key} is not a key of DeepSpeed: did you mean {near[0]}?")
    kind, params = deepspeed["optimizer"]["type"], deepspeed["optimizer"].get("params", {})
    if str(kind).lower() in OWN_OPTIMIZERS:
        return
    known = optimizers()
    if kind not in known:
        names = [*known, *(name.capitalize() for name in OWN_OPTIMIZERS)]
        raise ValueError(
            f"{path}: optimizer.type is {kind!r}, which neither torch.optim nor DeepSpeed has"
            f"{meant(str(kind), names)}"
        )
    arguments = list(inspect.signature(known[kind]).parameters)[1:]
    if strays := [name for name in params if name not in arguments]:
        raise ValueError(
            f"{path}: optimizer.params.{strays[0]} is no argument of {kind}"
            f"{meant(strays[0], arguments)} (known: {', '.join(arguments)})"
        )


def optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Those of torch, by name."""
    return {
        name: value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }


def meant(word: str, known: Iterable[str]) -> str:
    """The known name that a word is nearest to, as a question; the case makes no difference."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f": did you mean {by_lower[near[0]]}?" if near else ""
