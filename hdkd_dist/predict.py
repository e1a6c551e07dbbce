"""Use an exported network.

``python hdkd_dist/predict.py --model DIR --images DIR --budget_mmac 20``

Needs torch, safetensors, numpy, pillow and fire; no DeepSpeed, no FFCV.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from pathlib import Path


def main(
    model: str,
    images: str,
    budget_mmac: float | None = None,
    deadline_ms: float | None = None,
    exit: int | None = None,
    batch: int = 32,
) -> None:
    """Classify images under a budget; JSON lines on stdout, the last one a summary.

    Args:
        model: the folder that export.py has written.
        images: a folder, searched with its subfolders, or one file.
        budget_mmac: mean multiply-adds per image, in millions.
        deadline_ms: mean milliseconds per image, as measured on this machine before the start.
        exit: all images leave at this exit (1 is the first).
        batch: images at a time.
    """
    given = {"--budget_mmac": budget_mmac, "--deadline_ms": deadline_ms, "--exit": exit}
    if sum(value is not None for value in given.values()) != 1:
        raise ValueError(f"give exactly one of {', '.join(given)}")
    for flag, value in {**given, "--batch": batch}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{flag} must be a number, not {value!r}")
    if not 1 <= batch < math.inf or batch != int(batch):
        raise ValueError(f"--batch must be a whole number from 1 on, not {batch}")
    batch = int(batch)

    import torch

    from hdkd_dist.inference import choice
    from hdkd_dist.inference.allocation import keep_freed_memory
    from hdkd_dist.inference.exported import load_exported
    from hdkd_dist.inference.folder import answers_for, batches_of, files_in
    from hdkd_dist.inference.latency import measure_stages, sizes_up_to
    from hdkd_dist.inference.runtime import EarlyExitRunner

    keep_freed_memory()
    exported = load_exported(Path(str(model)))
    files = files_in(Path(str(images)))
    batch = min(batch, len(files))  # so are the stages timed
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    network = exported.network.to(device)
    if budget_mmac is not None:
        thresholds = choice.for_budget(exported, budget_mmac)
    elif deadline_ms is not None:
        times = measure_stages(network, exported.preprocessing.size, sizes_up_to(batch))
        thresholds = choice.for_deadline(exported, deadline_ms, times, batch)
    else:
        thresholds = choice.for_exit(exported, exit)
    runner = EarlyExitRunner(network, thresholds, exported.temperatures)

    taken: Counter[int] = Counter()
    skipped, seconds = 0, 0.0
    for good, pixels, unusable in batches_of(exported, files, batch):
        start = time.perf_counter()
        lines = answers_for(exported, runner, pixels.to(device), good)
        seconds += time.perf_counter() - start
        taken.update(line["exit"] for line in lines)
        skipped += len(unusable)
        for line in lines:
            print(json.dumps(line))
        for each in unusable:
            print(f"skipped {each.file}: {each.reason}", file=sys.stderr)
            print(json.dumps({"image": str(each.file), "skipped": each.reason}))
    answered = taken.total()
    if not answered:
        raise ValueError(
            f"--images {images} holds no image that can be read ({skipped} files skipped)"
        )
    costs = [row["mmac"] for row in exported.exits]
    summary = {
        "images": answered,
        "skipped": skipped,
        "exits": [taken[k + 1] for k in range(len(costs))],
        "thresholds": list(thresholds),
        "mmac": sum(costs[k - 1] * count for k, count in taken.items()) / answered,
        "ms_per_image": 1000 * seconds / answered,
    }
    print(json.dumps({"summary": summary}))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # a checkout need not be installed
    from hdkd_dist import cli

    cli.run(main)
