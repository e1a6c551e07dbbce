"""Train a multi-exit network: ``deepspeed hdkd_dist/train.py --ds_config ds_configs/….json``."""

from __future__ import annotations

from collections.abc import Sequence
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
        method: msdnet, dbt, impr, naive_dkd, hmsdnet, hdbt or hdkd.
        data: a folder that data_prep has written, or "digits".
        out: the run's folder.
        seed: of initial parameters, order and augmentation.
        epochs: of the whole schedule; milestones and warm-up scale along.
        test: whether the test split is evaluated at the end.
        resume: auto continues the run in its folder if it is unfinished; a checkpoint's or a run's
            folder is continued from; never moves an earlier run aside and starts again.
        resume_changed: continue although the configuration is another.
        init_from: start from the weights in a file, or of a run that is finished; what has another
            shape, such as classifiers of other classes, keeps its random start.
        check: only check the configuration and the data, for WORLD_SIZE ranks.
        set: any other setting, as section.name=value; may be repeated.
        local_rank: given by the deepspeed launcher.
    """
    from hdkd_dist.distributed import signals

    check = cli.switch("--check", check)
    resume_changed = cli.switch("--resume_changed", resume_changed)
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
    overrides |= parse_settings([set] if isinstance(set, str) else set)
    config = load_config(ds_config, overrides, ranks.world_size(), epochs)

    if check:
        check_data(config)
        return

    # DeepSpeed takes seconds to import: a fault in the configuration need not wait for it.
    from hdkd_dist.training.run import execute

    execute(config, requests, str(resume), resume_changed)


def check_data(config: Config) -> None:
    """Refuse data that are not there or do not fit the batch, before a job occupies its nodes."""
    from hdkd_dist.config.data_fit import check_metaval
    from hdkd_dist.data.manifest import EMBEDDED, data_folder, read_manifest
    from hdkd_dist.data.order import steps_per_epoch
    from hdkd_dist.distributed.devices import check_gpus

    check_gpus()
    if config.hdkd.data.path != EMBEDDED:  # which is prepared on first use
        manifest = read_manifest(data_folder(config.hdkd.data.path))
        steps_per_epoch(manifest, config.share)
        check_metaval(config.hdkd, manifest)
    print(f"configuration and data are in order for {config.share.world_size} rank(s)")


if __name__ == "__main__":
    with cli.leaving_at_once():
        cli.run(main)
