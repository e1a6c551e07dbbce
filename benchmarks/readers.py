"""How many images per second the two readers give, training's augmentation included.

    python data_prep/cifar100.py --source cifar-100-python.tar.gz --out /tmp/cifar100
    python data_prep/imagefolder.py --source imagenette-224.tar --out /tmp/imagenette
    taskset -c 0 python benchmarks/readers.py --data /tmp/cifar100,/tmp/imagenette

One line of JSON per data set, reader and way of reading: images per second of processor time (of
this process and the reader's own), which other load on the machine changes little, and of wall
time; medians of passes in which the readers take turns. FFCV compiles before the first.
"""

from __future__ import annotations

import json
import os
import statistics
import time

import numpy as np
import torch

from hdkd_dist import cli
from hdkd_dist.data.augment import Augmentation
from hdkd_dist.data.manifest import Manifest, read_manifest
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReaderName, ReadOptions, SplitReader

READERS: tuple[ReaderName, ...] = ("ffcv", "torch")
BATCH = 64
WAYS = {
    "plain": None,
    "augmented": {},
    "randaugment": {"randaugment": 9},
    "colour_jitter": {"colour_jitter": 0.4},
}


def processor_seconds() -> float:
    """Return the processor time of this process and of those it has started and seen end."""
    return sum(os.times()[:4])


def open_reader(manifest: Manifest, name: ReaderName, way: str, workers: int) -> SplitReader:
    """Open the training split for one way of reading."""
    extra = WAYS[way]
    return open_split(
        manifest,
        "train",
        image_size=manifest.image["size"] or 224,
        batch=BATCH,
        reading=ReadOptions(torch.device("cpu"), workers, reader=name),
        augmentation=None if extra is None else Augmentation.of(manifest, **extra),
    )


def main(data: str, images: int = 2000, passes: int = 5, workers: int = 1) -> None:
    """Measure both readers on prepared data sets.

    Args:
        data: their folders, separated by commas.
        images: in a pass.
        passes: of each reader.
        workers: threads or processes.
    """
    for folder in str(data).split(","):
        manifest = read_manifest(folder)
        for way in WAYS:
            compiled = open_reader(manifest, "ffcv", way, workers)
            list(compiled.read(np.arange(BATCH)))
            rates: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
            for number in range(passes):
                order = np.random.default_rng(number).permutation(compiled.samples)[:images]
                for name in READERS:
                    wall, busy = time.perf_counter(), processor_seconds()
                    # torch's processes count once they have ended: they start and end in a pass
                    torchs = name == "torch"
                    reader = open_reader(manifest, name, way, workers) if torchs else compiled
                    seen = sum(len(part.labels) for part in reader.read(order, epoch=number))
                    if torchs:
                        reader.close()
                        del reader
                    took = (processor_seconds() - busy, time.perf_counter() - wall)
                    rates[name].append((seen / took[0], seen / took[1]))
            for name, found in rates.items():
                busy_rate, wall_rate = (
                    statistics.median(each) for each in zip(*found, strict=True)
                )
                row = {
                    "data": manifest.name,
                    "way": way,
                    "reader": name,
                    "images": min(images, compiled.samples),
                    "passes": passes,
                    "images_per_processor_second": round(busy_rate),
                    "images_per_second": round(wall_rate),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    cli.run(main)
