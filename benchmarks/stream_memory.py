"""The memory that a rank's training stream needs, with the page cache shared and without.

    python benchmarks/stream_memory.py --data data/imagenet

Each way is measured in a process of its own that reads one epoch in random order.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

MIB = 1 << 20


def memory() -> dict[str, float]:
    """This process's memory in MiB: its own, and the file's pages that it shares with others."""
    sizes = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, size = line.split(":")
        sizes[name] = int(size.split()[0]) / 1024
    own = sizes["Anonymous"]
    return {"own": own, "shared": sizes["Rss"] - own}


def measure(data: str, os_cache: bool, batch: int, workers: int) -> dict[str, float]:
    """By how much an epoch lets the process grow at most; seconds."""
    import time

    import numpy as np
    import torch

    from hdkd_dist.data.augment import Augmentation
    from hdkd_dist.data.manifest import read_manifest
    from hdkd_dist.data.order import BatchShare
    from hdkd_dist.data.readers.opening import open_split
    from hdkd_dist.data.streams import ReadOptions, train_epoch

    manifest = read_manifest(data)
    reading = ReadOptions(torch.device("cpu"), workers, os_cache)
    size = manifest.image["size"] or 224
    reader = open_split(
        manifest,
        "train",
        image_size=size,
        batch=batch,
        reading=reading,
        augmentation=Augmentation.of(manifest),
    )
    warm_up = reader.read(np.arange(4 * batch))  # compiled here; little of the file is touched
    before = max((memory() for _ in warm_up), key=lambda found: found["own"])
    most = before
    start = time.perf_counter()
    for step, _ in enumerate(train_epoch(reader, BatchShare(batch), seed=0, epoch=1)):
        if step % 4 == 0:
            now = memory()
            most = {name: max(most[name], now[name]) for name in most}
    seconds = time.perf_counter() - start
    grown = {name: most[name] - before[name] for name in most}
    return {**most, **{f"{name}_grown": value for name, value in grown.items()}, "seconds": seconds}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--os_cache", choices=["true", "false"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.os_cache:
        print(json.dumps(measure(given.data, given.os_cache == "true", given.batch, given.workers)))
        return
    size = Path(given.data, "train.beton").stat().st_size / MIB
    print(f"train.beton: {size:.0f} MiB")
    found = {}
    for os_cache in ("true", "false"):
        words = ["--data", given.data, "--os_cache", os_cache]
        words += ["--batch", str(given.batch), "--workers", str(given.workers)]
        done = subprocess.run(
            [sys.executable, __file__, *words], check=True, capture_output=True, text=True
        )
        found[os_cache] = json.loads(done.stdout.splitlines()[-1])
        row = found[os_cache]
        own = f"own {row['own']:.0f} MiB ({row['own_grown']:+.0f} in the epoch)"
        shared = f"of the file, shared {row['shared']:.0f} MiB ({row['shared_grown']:+.0f})"
        print(f"os_cache {os_cache}: {own}, {shared}, {row['seconds']:.1f} s")
    if given.json:
        print(json.dumps({"train_mib": size, **found}))


if __name__ == "__main__":
    main()
