"""Small sources of image files, shared by the tests of imagefolder.py."""

import tarfile

import numpy as np
from PIL import Image

from hdkd_dist.data.manifest import read_manifest

CLASSES = ("n01", "n02", "n03")
TRAIN, VAL = 9, 2  # images per class
FLAGS = ["--per_class", "6", "--metaval_per_class", "2", "--workers", "1"]


def picture(seed, size=(40, 30)):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 256, (3, 4, 3), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def save(path, image, form="JPEG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, form)


def make_source(root, suffix="JPEG", inner="", form="JPEG", size=(40, 30)):
    """ImageNet's layout; ``inner`` is a folder between class and image."""
    for label, name in enumerate(CLASSES):
        for part, count in (("train", TRAIN), ("val", VAL)):
            for i in range(count):
                path = root / part / name / inner / f"{name}_{part}_{i}.{suffix}"
                save(path, picture([label, count, i], size), form)
    return root


def make_tar(source, path, mode="w", arcname="."):
    with tarfile.open(path, mode) as tar:
        tar.add(source, arcname=arcname)
    return path


def prepare(run_script, source, out, *flags):
    pairs = zip(FLAGS[::2], FLAGS[1::2], strict=True)
    usual = [word for flag, value in pairs if flag not in flags for word in (flag, value)]
    status, stdout, stderr = run_script(
        "imagefolder", "--source", source, "--out", out, *usual, *flags
    )
    assert status == 0
    return read_manifest(out), stdout, stderr
