"""What checkpoints, tracking and the watch cost, as a share of the time of training.

    python benchmarks/overhead.py --ds_config ds_configs/cifar100_small.json

One epoch is trained as a user trains, W&B offline included, with a checkpoint every 50 steps, and
the time spent in each part is measured. Saves are then counted at their default interval.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hdkd_dist import cli

spent: dict[str, float] = defaultdict(float)
calls: dict[str, int] = defaultdict(int)


def timed(owner: Any, name: str, part: str) -> None:
    """Count the time spent in ``owner.name`` for ``part``; what is timed inside it counts there."""
    inner: Callable = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*arguments: Any, **keywords: Any) -> Any:
        before = sum(spent.values())
        start = time.perf_counter()
        try:
            return inner(*arguments, **keywords)
        finally:
            inside = sum(spent.values()) - before
            spent[part] += time.perf_counter() - start - inside
            calls[part] += 1

    setattr(owner, name, outer)


def train(ds_config: str, data: str | None, out: Path, epochs: int) -> dict[str, Any]:
    """Train in this process with every part timed; the run's results."""
    from hdkd_dist.config.load import load_config
    from hdkd_dist.distributed import signals
    from hdkd_dist.training import measure
    from hdkd_dist.training.checkpointing.saver import Saver
    from hdkd_dist.training.reporter import Reporter
    from hdkd_dist.training.run import execute

    timed(measure, "squared_norm", "norm of the gradient")
    timed(Reporter, "step", "records (metrics.jsonl, W&B)")
    timed(Saver, "after_step", "votes and the watch")
    timed(Saver, "save", "checkpoints")
    overrides = {
        "hdkd.run.out": str(out),
        "hdkd.run.test": False,
        "hdkd.checkpoint.every_steps": 50,
        **({} if data is None else {"hdkd.data.path": data}),
    }
    config = load_config(ds_config, overrides, 1, epochs)
    execute(config, signals.listen())
    return json.loads((out / "results.json").read_text())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ds_config", default="ds_configs/quickstart.json")
    parser.add_argument("--data")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    given = parser.parse_args()
    os.environ.setdefault("WANDB_MODE", "offline")
    with tempfile.TemporaryDirectory() as folder:
        results = train(given.ds_config, given.data, Path(folder, "run"), given.epochs)
        from hdkd_dist.config.settings import CheckpointSettings

        interval = 60 * CheckpointSettings().every_minutes
        steps, seconds = results["train"]["steps"], results["train"]["seconds"]
        net = (seconds - sum(spent.values())) / steps  # seconds per step without all of it
        save = spent["checkpoints"] / calls["checkpoints"]
        shares = {
            part: 100 * cost / steps / net for part, cost in spent.items() if part != "checkpoints"
        }
        shares["checkpoints"] = 100 * save / interval
    print(f"{steps} steps of {1000 * net:.1f} ms; a checkpoint takes {1000 * save:.0f} ms")
    for part, share in shares.items():
        print(f"{part:32s} {share:6.2f} %")
    total = sum(shares.values())
    print(f"{'together':32s} {total:6.2f} %")
    if given.json:
        found = {"step_ms": 1000 * net, "save_ms": 1000 * save, "percent": total}
        print(json.dumps({**found, **shares}))


if __name__ == "__main__":
    with cli.leaving_at_once():
        main()
