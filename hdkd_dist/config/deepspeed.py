"""Check DeepSpeed's part of a configuration, and resolve the batch and the look-ahead."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from hdkd_dist.config.settings import Settings
from hdkd_dist.data.order import BatchShare
from hdkd_dist.method.algorithm import LookAhead
from hdkd_dist.spelling import SETTINGS, did_you_mean

# What a value must be.
SECTION = "a JSON object"
SWITCH = "true or false"
COUNT = "a positive integer"
POSITIVE = "a positive number"
NOT_NEGATIVE = "a number from 0 on"
TEXT = "a text"

# The top-level keys that this trainer passes on, and what their values are. DeepSpeed ignores a key
# that it does not know, fails at sections that it has removed (elasticity, amp, …), and some take
# the training over (autotuning ends the process with status 0).
KEYS = {
    "activation_checkpointing": SECTION,
    "aio": SECTION,
    "bf16": SECTION,
    "bfloat16": SECTION,
    "comms_logger": SECTION,
    "communication_data_type": TEXT,
    "compile": SECTION,
    "csv_monitor": SECTION,
    "disable_allgather": SWITCH,
    "dump_state": SWITCH,
    "flops_profiler": SECTION,
    "fp16": SECTION,
    "gradient_accumulation_steps": COUNT,
    "gradient_clipping": NOT_NEGATIVE,
    "gradient_predivide_factor": POSITIVE,
    "log_level": TEXT,
    "memory_breakdown": SWITCH,
    "optimizer": SECTION,
    "prescale_gradients": SWITCH,
    "steps_per_print": COUNT,
    "tensorboard": SECTION,
    "timers": SECTION,
    "torch_autocast": SECTION,
    "train_batch_size": COUNT,
    "train_micro_batch_size_per_gpu": COUNT,
    "wall_clock_breakdown": SWITCH,
    "wandb": SECTION,
    "zero_allow_untested_optimizer": SWITCH,
    "zero_force_ds_cpu_optimizer": SWITCH,
    "zero_optimization": SECTION,
}
IS: dict[str, Callable[[Any], bool]] = {
    SECTION: lambda value: isinstance(value, Mapping),
    SWITCH: lambda value: isinstance(value, bool),
    COUNT: lambda value: type(value) is int and value > 0,
    POSITIVE: lambda value: type(value) in (int, float) and value > 0,
    NOT_NEGATIVE: lambda value: type(value) in (int, float) and value >= 0,
    TEXT: lambda value: isinstance(value, str),
}
INSTEAD_OF_HALVES = (
    'set "torch_autocast": {"enabled": true, "dtype": "bfloat16"}, or leave it out to train in '
    "float32, on a GPU without bfloat16 (before Ampere)"
)
# Optimisers of its own, in any case; it takes all others from torch.optim, by their exact names.
OWN_OPTIMIZERS = ("adagrad", "adam", "adamw", "lamb", "lion", "muadam", "muadamw", "muon", "musgd")
# Those that torch has too.
TORCH_NAMES = {"adagrad": "Adagrad", "adam": "Adam", "adamw": "AdamW"}


def check_keys(deepspeed: Mapping[str, Any], path: str | Path) -> None:
    """Refuse keys that are not passed on, and values that DeepSpeed or the γ step cannot take.

    Raises:
        ValueError: with the name that may be meant.
    """
    for key in sorted(deepspeed.keys() - set(KEYS)):
        hint = did_you_mean(key, [*KEYS, *SETTINGS]) or f" (known: {', '.join(KEYS)})"
        raise ValueError(f"{path}: {key} is not a key of DeepSpeed that is passed on{hint}")
    for key, value in deepspeed.items():
        if value is not None and not IS[KEYS[key]](value):
            raise ValueError(f"{path}: {key} is {value!r} but must be {KEYS[key]}")
    sent = deepspeed.get("communication_data_type")
    if sent not in (None, "fp32"):
        raise ValueError(
            f"{path}: communication_data_type is {sent!r} but must be fp32: gradients that are "
            "rounded on their way are not those that γ's derivative belongs to"
        )


def check_finite(value: Any, path: str | Path, name: str = "") -> None:
    """Refuse numbers that are not finite, such as 1e400 and NaN, anywhere in a configuration.

    Raises:
        ValueError: naming the setting.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            check_finite(part, path, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for part in value:
            check_finite(part, path, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path}: {name} is {value} but must be a finite number")


def check_optimizer(deepspeed: Mapping[str, Any], path: str | Path) -> None:
    """Refuse optimisers and arguments that do not exist, and values that torch refuses.

    Raises:
        ValueError: with the name that may be meant.
    """
    optimizer = deepspeed["optimizer"]
    kind, params = optimizer["type"], dict(optimizer.get("params", {}))
    known = torch_optimizers()
    own = str(kind).lower() in OWN_OPTIMIZERS
    if own and str(kind).lower() not in TORCH_NAMES:
        return  # what it accepts, DeepSpeed knows
    if not own and kind not in known:
        names = [*known, *(name.capitalize() for name in OWN_OPTIMIZERS)]
        raise ValueError(
            f"{path}: optimizer.type is {kind!r}, which neither torch.optim nor DeepSpeed has"
            f"{did_you_mean(str(kind), names)}"
        )
    made = known[TORCH_NAMES[kind.lower()] if own else kind]
    arguments = list(inspect.signature(made).parameters)[1:]
    strays = [name for name in params if name not in arguments]
    if strays and not own:
        raise ValueError(
            f"{path}: optimizer.params.{strays[0]} is no argument of {kind}"
            f"{did_you_mean(strays[0], arguments)} (known: {', '.join(arguments)})"
        )
    taken = {name: value for name, value in params.items() if name in arguments}
    try:
        made([torch.nn.Parameter(torch.zeros(1, 1))], **{"lr": 1.0, **taken})
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"{path}: torch refuses optimizer.params of {kind}: {error}") from None


def torch_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """List torch's optimisers by name."""
    return {
        name: value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
    }


def check_engine(deepspeed: Mapping[str, Any], path: str | Path) -> None:
    """Refuse what the γ step cannot work with, with the reason."""
    if strays := sorted(deepspeed.keys() & Settings.model_fields.keys()):
        raise ValueError(
            f"{path}: {strays[0]} is a setting of this project: write hdkd.{strays[0]}"
        )
    if "scheduler" in deepspeed:
        raise ValueError(f"{path}: the schedule belongs into hdkd.schedule, not into scheduler")
    check_keys(deepspeed, path)
    stage = subsection(deepspeed, "zero_optimization", path).get("stage", 0)
    if stage == 3:
        raise ValueError(
            f"{path}: ZeRO stage 3 shards the parameters, and the look-ahead needs them whole on "
            "every rank: set zero_optimization.stage to 0, 1 or 2"
        )
    if stage not in (0, 1, 2) or not isinstance(stage, int):
        raise ValueError(f"{path}: zero_optimization.stage is {stage!r} but must be 0, 1 or 2")
    for kind in ("bf16", "bfloat16", "fp16"):
        if subsection(deepspeed, kind, path).get("enabled"):
            raise ValueError(
                f"{path}: a pure {kind} engine keeps half-precision parameters, in whose rounding "
                f"the look-ahead step vanishes: {INSTEAD_OF_HALVES}"
            )
    autocast = subsection(deepspeed, "torch_autocast", path)
    if autocast.get("enabled") and autocast.get("dtype") not in ("bfloat16", "bf16"):
        # Without a dtype DeepSpeed takes the device's default, float16 on a GPU.
        raise ValueError(
            f"{path}: torch_autocast.dtype is {autocast.get('dtype')!r} but must be bfloat16: "
            "float16 scales the loss and skips steps, which the look-ahead does not know of: "
            f"{INSTEAD_OF_HALVES}"
        )
    optimizer = subsection(deepspeed, "optimizer", path)
    if "type" not in optimizer:
        raise ValueError(f'{path} needs DeepSpeed\'s "optimizer", such as {{"type": "SGD"}}')
    params = subsection(optimizer, "params", path)
    check_optimizer(deepspeed, path)
    if "lr" in params:
        raise ValueError(
            f"{path}: optimizer.params.lr would be ignored: the learning rate is "
            "hdkd.schedule.base_lr × train_batch_size / base_batch"
        )


def look_ahead_for(
    lookahead: str, deepspeed: Mapping[str, Any], path: str | Path = "the configuration"
) -> LookAhead:
    """Resolve ``hdkd.gamma.lookahead``: auto is online where that is exact, otherwise lookahead.

    Raises:
        ValueError: if online is asked for and γ's part in the optimiser's step is not SGD's.
    """
    fault = online_fault(deepspeed)
    if lookahead == "online" and fault:
        raise ValueError(
            f'{path}: hdkd.gamma.lookahead "online" differentiates a step of SGD and cannot '
            f'work with {fault}: set hdkd.gamma.lookahead to "auto" or "lookahead", or use plain '
            "SGD"
        )
    if lookahead == "auto":
        return "lookahead" if fault else "online"
    return "online" if lookahead == "online" else "lookahead"


def online_fault(deepspeed: Mapping[str, Any]) -> str | None:
    """Name what makes the optimiser's step depend on γ otherwise than SGD's does, if anything."""
    optimizer = deepspeed["optimizer"]
    kind = optimizer.get("type", "SGD")
    faults = {
        f"the optimizer {kind}": kind != "SGD",
        "dampening": optimizer.get("params", {}).get("dampening"),
        "gradient_clipping": deepspeed.get("gradient_clipping"),
    }
    return next((fault for fault, present in faults.items() if present), None)


def subsection(section: Mapping[str, Any], name: str, path: str | Path) -> Mapping[str, Any]:
    """Return the object under a name; empty if there is none."""
    value = section.get(name, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: {name} is {value!r} but must be a JSON object")
    return value


def resolve_batch(raw: Mapping[str, Any], world_size: int, path: str | Path) -> dict[str, Any]:
    """State all three batch sizes in DeepSpeed's part: B = micro × accumulation × ranks.

    A micro-batch without accumulation steps is the most that a rank can take at a time: the more
    ranks there are, the fewer accumulation steps, and then the smaller micro-batches.

    Raises:
        ValueError: for sizes that do not divide the batch, or without one.
    """
    batch, micro = raw.get("train_batch_size"), raw.get("train_micro_batch_size_per_gpu")
    if batch is None:
        raise ValueError(f"{path} needs train_batch_size, the batch over all ranks")
    accumulation = raw.get("gradient_accumulation_steps")
    if accumulation is None:
        own = BatchShare(batch, 1, world_size=world_size).micro_batch  # a rank's part of the batch
        most = own if micro is None else micro
        accumulation = next(a for a in range(1, own + 1) if own % a == 0 and own // a <= most)
    elif micro is not None and batch != micro * accumulation * world_size:
        raise ValueError(
            f"{path}: train_batch_size {batch} is not train_micro_batch_size_per_gpu {micro} × "
            f"{accumulation} accumulation step(s) × {world_size} rank(s): leave out one of the two"
        )
    share = BatchShare(batch, accumulation, world_size=world_size)
    return {
        **raw,
        "train_batch_size": batch,
        "train_micro_batch_size_per_gpu": share.micro_batch,
        "gradient_accumulation_steps": accumulation,
    }
