"""A small data set of noise, and a way to prepare it, shared by the tests of the preparation."""

import numpy as np

from hdkd_dist.data.preparing.beton import ArraySamples, FieldOptions
from hdkd_dist.data.preparing.write import write_data_set

SIDE = 64
COUNTS = {"train": 400, "metaval": 30, "test": 17}  # train takes three pages of 2 MiB
JOB = {"data": "noise", "per_class": 3, "source": {"sha256": "abc"}}


def noise(samples):
    generator = np.random.default_rng(samples)
    images = generator.integers(0, 256, (samples, SIDE, SIDE, 3), np.uint8)
    return ArraySamples(images, generator.integers(0, 5, samples), range(samples))


SPLITS = {split: noise(samples) for split, samples in COUNTS.items()}


def prepare(out, job=JOB, splits=SPLITS, workers=1, **options):
    return write_data_set(
        out,
        job,
        splits,
        name="noise",
        classes=list("abcde"),
        image={"size": SIDE, "mean": [0.5] * 3, "std": [0.2] * 3},
        augmentation={"flip": True, "translate": 4},
        options=FieldOptions(**options),
        workers=workers,
        skipped=["bad.jpg"],
    )


class Broken:
    """Samples of which none can be read; ``act`` is called instead."""

    def __init__(self, act, after=0):
        self.act = act
        self.after = after

    def __len__(self):
        return len(SPLITS["train"])

    def __getitem__(self, index):
        if index >= self.after:
            self.act()
        return SPLITS["train"][index]
