"""Guess the name that is meant by one that does not exist: misspelt, or another program's."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

THETA_RATE, GAMMA_RATE = "hdkd.schedule.base_lr", "hdkd.gamma.lr"

# What people type out of habit → flags and settings that it may stand for here.
HABITS: dict[str, tuple[str, ...]] = {
    "accumulation_steps": ("gradient_accumulation_steps",),
    "amp": ("torch_autocast.enabled",),
    "arch": ("hdkd.model.preset",),
    "base_lr": (THETA_RATE,),
    "batch": ("--batch", "train_batch_size"),
    "batch_size": ("--batch", "train_batch_size"),
    "betas": ("optimizer.params.betas",),
    "bf16": ("torch_autocast.enabled",),
    "checkpoint": ("--init_from", "--resume", "--run"),
    "ckpt": ("--init_from", "--resume", "--run"),
    "clip_grad": ("gradient_clipping",),
    "config": ("--ds_config",),
    "data_dir": ("--data", "--source", "hdkd.data.path"),
    "data_path": ("--data", "--source", "hdkd.data.path"),
    "dataset": ("--data", "hdkd.data.path"),
    "deepspeed_config": ("--ds_config",),
    "finetune": ("--init_from",),
    "fp16": ("torch_autocast.enabled",),
    "grad_accum": ("gradient_accumulation_steps",),
    "grad_clip": ("gradient_clipping",),
    "input": ("--images", "--source"),
    "kd_lambda": ("hdkd.loss.kd_weight",),
    "lambda": ("hdkd.loss.kd_weight",),
    "learning_rate": (THETA_RATE, GAMMA_RATE),
    "log_interval": ("hdkd.run.log_every",),
    "lr": (THETA_RATE, GAMMA_RATE),
    "lr_schedule": ("hdkd.schedule.kind",),
    "max_epochs": ("--epochs", "hdkd.schedule.epochs"),
    "max_grad_norm": ("gradient_clipping",),
    "micro_batch_size": ("train_micro_batch_size_per_gpu",),
    "model": ("--model", "hdkd.model.preset"),
    "momentum": ("optimizer.params.momentum",),
    "network": ("hdkd.model.preset",),
    "num_epochs": ("--epochs", "hdkd.schedule.epochs"),
    "num_workers": ("--workers", "hdkd.data.workers"),
    "opt": ("optimizer.type",),
    "optim": ("optimizer.type",),
    "output": ("--out", "hdkd.run.out"),
    "output_dir": ("--out", "hdkd.run.out"),
    "precision": ("torch_autocast.enabled",),
    "pretrained": ("--init_from", "hdkd.model.init_from"),
    "random_seed": ("--seed", "hdkd.run.seed"),
    "save_dir": ("--out", "hdkd.run.out"),
    "save_every": ("hdkd.checkpoint.every_steps", "hdkd.checkpoint.every_minutes"),
    "scheduler": ("hdkd.schedule.kind",),
    "smoothing": ("hdkd.loss.label_smoothing",),
    "t": ("hdkd.loss.temperature",),
    "tau": ("hdkd.loss.temperature",),
    "type": ("hdkd.schedule.kind",),
    "warmup": ("hdkd.schedule.warmup_epochs",),
    "wd": ("optimizer.params.weight_decay",),
    "weight_decay": ("optimizer.params.weight_decay",),
}
# The settings that people try as flags.
SETTINGS = (
    "hdkd.gamma.alpha",
    "hdkd.gamma.init",
    "hdkd.loss.label_smoothing",
    "hdkd.schedule.milestones",
    *sorted({name for names in HABITS.values() for name in names if not name.startswith("--")}),
)


def did_you_mean(word: str, known: Iterable[str], similarity: float = 0.6) -> str:
    """Ask ``: did you mean …?`` with the known names that are meant; "" where none is near.

    Names are compared without the dashes of a flag and by what follows their last dot; case makes
    no difference.

    Args:
        word: as it was written.
        known: the names that exist here.
        similarity: of the nearest name at least, from 0 to 1; see ``difflib``.
    """
    names = list(dict.fromkeys(known))
    typed = plain(word)
    meant = [name for name in HABITS.get(typed, ()) if name in names]
    if not meant:
        near = difflib.get_close_matches(typed, set(map(plain, names)), n=1, cutoff=similarity)
        meant = [name for name in names if plain(name) in near]
    return f": did you mean {' or '.join(meant)}?" if meant else ""


def plain(name: str) -> str:
    """Strip a name of its dashes and sections: ``--batch-size`` and ``x.batch_size`` are alike."""
    return name.rpartition(".")[2].lstrip("-").replace("-", "_").lower()
