"""Whether a checkpoint can be continued with this configuration, on these ranks and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.training import ranks
from hdkd_dist.training.checkpoint import Checkpoint
from hdkd_dist.training.config import Config
from hdkd_dist.training.faults import SECTION
from hdkd_dist.training.settings import Settings

# Settings that say how machines do the work, not what is computed: they may change in between.
FREE = (
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "steps_per_print",
    "hdkd.data.path",  # its content is compared instead
    "hdkd.data.workers",
    "hdkd.data.os_cache",
    "hdkd.data.local_copy",
    "hdkd.checkpoint",
    "hdkd.run.out",
    "hdkd.run.wandb",
    "hdkd.run.wandb_project",
    "hdkd.run.hang_timeout_s",
)
# Settings under which the tensors or the position of a checkpoint would mean something else, or
# which would have no effect any more.
FIXED = (
    "train_batch_size",
    "zero_optimization.stage",
    "optimizer.type",
    "hdkd.method",
    "hdkd.model",
    "hdkd.data.metaval_batch_size",
    "hdkd.loss",  # T and γ₀ go on from the checkpoint
    "hdkd.gamma.init",
    "hdkd.gamma.optimizer",
    "hdkd.run.seed",
)


def check_fit(
    checkpoint: Checkpoint, config: Config, manifest: Manifest, resume_changed: bool
) -> bool:
    """Whether the configuration differs from the checkpoint's.

    Raises:
        ValueError: if it differs without ``resume_changed``, or in what cannot change.
    """
    where = f"cannot continue {checkpoint.folder}"
    splits = {name: split.sha256 for name, split in manifest.splits.items()}
    if others := [name for name in splits if splits[name] != checkpoint.data.get(name)]:
        raise ValueError(
            f"{where}: it was trained on other data ({others[0]} of {manifest.folder} has another "
            "sha256): give the data set it began with, or --resume never"
        )
    stage = config.deepspeed.get("zero_optimization", {}).get("stage", 0)
    if stage and checkpoint.world_size != ranks.world_size():
        raise ValueError(
            f"{where} on {ranks.world_size()} rank(s): {checkpoint.world_size} wrote it, and ZeRO "
            f"stage {stage} has divided the optimiser among them; use as many, or stage 0 from "
            "the start"
        )
    differences = compare(checkpoint.config, config.as_json())
    # With a sharded optimiser DeepSpeed clips as the checkpoint says.
    lasting = (*FIXED, "gradient_clipping") if stage else FIXED
    if fixed := [line for key, line in differences.items() if under(key, lasting)]:
        raise ValueError(
            f"{where}: {'; '.join(fixed)}: this cannot change within a run; start another one "
            "with --resume never"
        )
    if differences and not resume_changed:
        raise ValueError(
            f"{where}: the configuration has changed: {'; '.join(differences.values())}; "
            "go on all the same with --resume_changed true"
        )
    return bool(differences)


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What differs between two configurations and matters, "a → b" by dotted name."""
    old, new = flatten(with_defaults(before)), flatten(now)
    return {
        key: f"{key} {old.get(key)!r} → {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) and not under(key, FREE)
    }


def with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """An earlier version's configuration with the settings that have come since, at defaults."""
    try:
        section = Settings.model_validate(config.get(SECTION)).model_dump(mode="json")
    except ValidationError:
        return config
    return {**config, SECTION: section}


def flatten(section: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}{name}.")
        else:
            flat[path + name] = value
    return flat


def under(key: str, sections: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the given or lies in one of them."""
    return any(key == section or key.startswith(section + ".") for section in sections)
