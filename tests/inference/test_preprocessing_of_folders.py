"""predict's pixels are those that the evaluation reads with FFCV, for images of all sizes."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from hdkd_dist.data.preparing.beton import FieldOptions
from hdkd_dist.data.preparing.write import write_data_set
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReadOptions, evaluation_pass
from hdkd_dist.inference.preprocessing import Preprocessing

SIZES = [(40, 30), (30, 41), (120, 47), (33, 33), (90, 200), (31, 28)]
SIDE, LONGEST = 32, 100


def picture(seed):
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), np.uint8)
    return Image.fromarray(small).resize(SIZES[seed], Image.Resampling.BICUBIC)


def test_pixels_are_the_loaders(tmp_path):
    pictures = [picture(seed) for seed in range(len(SIZES))]
    samples = [(image, i % 2) for i, image in enumerate(pictures)]
    manifest = write_data_set(
        tmp_path / "data",
        {"data": "pictures", "max_side": LONGEST},
        {split: samples for split in ("train", "metaval", "test")},
        name="pictures",
        classes=["one", "two"],
        image={"size": None, "mean": [0.5] * 3, "std": [0.2] * 3},
        augmentation={"flip": True, "resized_crop": True},
        options=FieldOptions(write_mode="raw", max_side=LONGEST),
        workers=1,
    )
    reading = ReadOptions(torch.device("cpu"))
    reader = open_split(manifest, "test", image_size=SIDE, batch=4, reading=reading)
    expected = torch.cat([part.images for part in evaluation_pass(reader, 0, 1)])
    preprocessing = Preprocessing.of(manifest, SIDE)
    assert (preprocessing.crop, preprocessing.max_side) == (0.875, LONGEST)
    for image, theirs in zip(pictures, expected, strict=True):
        file = io.BytesIO()
        image.save(file, "PNG")
        ours = preprocessing.of_file(file.getvalue()).astype(int)
        assert np.abs(ours - theirs.permute(1, 2, 0).numpy()).max() <= 1, image.size
