"""Train a multi-exit network: ``deepspeed hdkd_dist/train.py --ds_config ds_configs/….json``."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hdkd_dist import cli

if TYPE_CHECKING:
    from hdkd_dist.config.load import Config


def main(
    ds_config: str,
    method: str | None = None,
    data: str | None = None,
    out: str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    test: bool | None = None,
    resume: str = "never",
    resume_changed: bool = False,
    check: bool = False,
    init_from: str | None = None,
    set: Sequence[str] = (),
    local_rank: int = 0,
) -> None:
    """Train one of the paper's seven methods as a configuration says.

    Args:
        ds_config: the JSON file: DeepSpeed's configuration and the section "hdkd".
        method: msdnet, dbt, impr, naive_dkd, hmsdnet, hdbt or hdkd; default the file's.
        data: a folder that data_prep has written, or "digits"; default the file's.
        out: the run's folder; default the file's, or runs/<configuration>-<method>-seed<seed>.
        seed: of initial parameters, order and augmentation; default the file's, or 0.
        epochs: of the whole schedule, in place of the file's; its milestones and warm-up scale
            along, those given by --set do not.
        test: evaluate the test split at the end; default the file's, or true.
        resume: auto continues the run in its folder if it is unfinished; a checkpoint's or a run's
            folder is continued from; never moves an earlier run aside and starts again.
        resume_changed: continue although the configuration is another.
        init_from: start from the weights in a file, or of a run that is finished; what has another
            shape, such as classifiers of other classes, keeps its random start.
        check: only check the configuration and the data, for WORLD_SIZE ranks.
        set: any setting of the file, as hdkd.section.name=VALUE, or one of DeepSpeed's, as
            optimizer.params.momentum=0.9; VALUE is JSON or text.
        local_rank: given by DeepSpeed's launcher.
    """
    from hdkd_dist.distributed import signals

    requests = signals.listen()  # before torch, which may take long to import

    from hdkd_dist.config.load import load_config, parse_settings
    from hdkd_dist.distributed import ranks

    flags = {
        "hdkd.method": method,
        "hdkd.data.path": data,
        "hdkd.run.out": out,
        "hdkd.run.seed": seed,
        "hdkd.run.test": test,
        "hdkd.model.init_from": init_from,
    }
    overrides = {key: value for key, value in flags.items() if value is not None}
    settings = parse_settings(set)
    if twice := overrides.keys() & settings.keys():
        raise ValueError(f"{min(twice)} is given both by its flag and by --set: leave out one")
    overrides |= settings
    if check:
        world_size = ranks.planned_world_size(os.environ)
        check_run(load_config(ds_config, overrides, world_size, epochs))
        return
    world_size = ranks.world_size() if ranks.is_launched(os.environ) else 1
    config = load_config(ds_config, overrides, world_size, epochs)
    check_packages(config)

    # DeepSpeed takes seconds to import: a fault in the configuration need not wait for it.
    from hdkd_dist.training.run import execute

    execute(config, requests, resume, resume_changed)


@contextmanager
def silent_start() -> Iterator[None]:
    """Keep DeepSpeed from telling which device it has found, at its import."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def check_packages(config: Config) -> None:
    """Refuse a run whose packages are missing, among them one that only rank 0 imports, later.

    Raises:
        ModuleNotFoundError: naming it.
    """
    if config.hdkd.run.wandb != "disabled" and importlib.util.find_spec("wandb") is None:
        raise ModuleNotFoundError("wandb is not installed", name="wandb")


def check_run(config: Config) -> None:
    """Refuse what training would refuse of a configuration and its data; nothing is written.

    Raises:
        ValueError: in one line.
    """
    from hdkd_dist.config.data_fit import check_metaval
    from hdkd_dist.data.manifest import EMBEDDED, data_folder, read_manifest
    from hdkd_dist.data.order import steps_per_epoch
    from hdkd_dist.distributed.devices import check_gpus

    check_packages(config)
    check_gpus()
    if config.hdkd.data.path != EMBEDDED:  # which is prepared on first use
        manifest = read_manifest(data_folder(config.hdkd.data.path))
        steps_per_epoch(manifest, config.share)
        for split in manifest.splits:
            manifest.path(split)
        check_metaval(config.hdkd, manifest)
    with silent_start():
        from hdkd_dist.training.engine import check_accepted
    check_accepted(config)
    print(f"configuration and data are in order for {config.share.world_size} rank(s)")


if __name__ == "__main__":
    with cli.leaving_at_once():
        cli.run(main)
