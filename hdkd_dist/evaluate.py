"""Evaluate finished runs: ``python hdkd_dist/evaluate.py --run runs/quickstart``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hdkd_dist import cli


def main(
    run: Sequence[str],
    data: str | None = None,
    out: Path | None = None,
    batch: int = 256,
    workers: int = 1,
    confidence: str = "calibrated",
    search: str = "direct",
    latency_batch: int = 32,
    save_logits: bool = False,
) -> None:
    """Measure every exit (the anytime mode) and early exit under budgets; the run notes them.

    Args:
        run: the folder that train.py has written. Several (repeated, or separated by commas) also
            give one curve, of the best network for each budget.
        data: another prepared data set to measure on; the results are printed only.
        out: where the curve of several networks goes; default runs/networks.
        batch: images at a time.
        workers: loader threads.
        confidence: calibrated or max_probability: what thresholds are compared with.
        search: direct or geometric: how thresholds are found.
        latency_batch: images at a time when the stages are timed.
        save_logits: leave the outputs of all exits in the run's folder "logits".
    """
    from hdkd_dist.distributed.allocation import keep_freed_memory
    from hdkd_dist.evaluation.evaluate_run import (
        Options,
        check_request,
        compare_runs,
        evaluate_run,
        named_runs,
    )

    options = Options(data, batch, workers, confidence, latency_batch, save_logits, search)
    folders = named_runs(run)
    if out is not None and len(folders) == 1:
        raise ValueError(f"--out {out} is where the curve of several networks goes: leave it out")
    together = out or Path("runs/networks")
    check_request(folders, options, together)
    keep_freed_memory()
    evaluated = [evaluate_run(folder, options) for folder in folders]
    if len(evaluated) > 1:
        compare_runs(evaluated, together)


if __name__ == "__main__":
    cli.run(main)
