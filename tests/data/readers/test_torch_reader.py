"""The reader in plain torch: FFCV's pixels, and workers that serve one process alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from photographs import CPU, SAMPLES, SIDE, fixed_set, varying_set

from hdkd_dist.data.augment import Augmentation
from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.readers.ffcv_reader import FfcvReader
from hdkd_dist.data.readers.torch_reader import TorchReader
from hdkd_dist.data.streams import ReadOptions

EXTRA = {"randaugment": 9, "colour_jitter": 0.4}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return fixed_set(tmp_path_factory.mktemp("fixed") / "fixed")


def opened(manifest, workers=1, augmentation=None):
    reading = ReadOptions(CPU, workers)
    return TorchReader(
        manifest, "test", image_size=SIDE, batch=8, reading=reading, augmentation=augmentation
    )


def images_of(kind, manifest, augmentation):
    size = manifest.image["size"] or 16
    reader = kind(
        manifest,
        "train",
        image_size=size,
        batch=8,
        reading=ReadOptions(CPU),
        augmentation=augmentation,
    )
    order = np.arange(SAMPLES)[::-1].copy()
    images = torch.cat([part.images for part in reader.read(order, seed=5, epoch=2)])
    reader.close()
    return images.int()


@pytest.mark.parametrize("prepare", [fixed_set, varying_set])
def test_stored_pixels_are_ffcvs_to_the_bit(tmp_path, prepare):
    manifest = prepare(tmp_path / "data")
    augmentation = Augmentation.of(manifest, **EXTRA)
    theirs = images_of(FfcvReader, manifest, augmentation)
    assert torch.equal(images_of(TorchReader, manifest, augmentation), theirs)


def test_jpegs_are_ffcvs_within_eight_levels_of_256(tmp_path):
    """Two decoders round differently: FFCV's takes the fast way."""
    manifest = varying_set(tmp_path / "data", write_mode="jpg")
    augmentation = Augmentation.of(manifest)
    ours, theirs = (images_of(kind, manifest, augmentation) for kind in (TorchReader, FfcvReader))
    difference = (ours - theirs).abs()
    assert difference.max() <= 8
    assert difference.float().mean() < 1.5


def children():
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True)
    return {int(word) for word in found.stdout.split()}


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_a_pass_that_is_left_early_ends_its_workers(manifest):
    before = children()
    batches = opened(manifest).read(np.arange(SAMPLES))
    next(batches)
    assert children() - before
    batches.close()
    wait_for(lambda: not children() - before)


def test_workers_that_augment_live_on_until_the_reader_is_closed(manifest):
    before = children()
    reader = opened(manifest, augmentation=Augmentation.of(manifest))
    batches = reader.read(np.arange(SAMPLES), seed=1)
    first = next(batches)
    batches.close()  # early: what was asked for and not taken must not come in the next pass
    workers = children() - before
    again = list(reader.read(np.arange(SAMPLES), seed=1))
    assert children() - before == workers
    assert [len(part.labels) for part in again] == [8] * 5
    assert torch.equal(again[0].images, first.images)
    reader.close()
    wait_for(lambda: not children() - before)
    with pytest.raises(RuntimeError, match=r"test\.beton is closed"):
        next(reader.read(np.arange(SAMPLES)))


def test_requests_to_stop_do_not_reach_the_workers(manifest):
    """A batch system sends them to all processes of a job; the state is still to be saved."""
    before = children()
    batches = opened(manifest).read(np.arange(SAMPLES))
    parts = [next(batches)]
    for worker in children() - before:
        for name in ("TERM", "INT", "USR1"):
            subprocess.run(["kill", f"-{name}", str(worker)], check=True)
    parts += batches
    assert torch.cat([part.indices for part in parts]).tolist() == list(range(SAMPLES))


def test_reading_draws_nothing_from_torchs_generator(manifest):
    """A network with dropout would end with other weights where a run goes on."""
    before = torch.get_rng_state()
    list(opened(manifest).read(np.arange(SAMPLES)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_image_names_the_file(tmp_path):
    manifest = varying_set(tmp_path / "data", write_mode="jpg")
    path = manifest.path("test")
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xd8\xff")
    content[start : start + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match=r"reading .*test.beton failed: .*cannot identify"):
        list(opened(manifest).read(np.arange(SAMPLES)))


WITHOUT_FFCV = """
import sys
for name in ("ffcv", "numba"):
    sys.modules[name] = None  # any import of it now fails
import numpy as np, torch
from pathlib import Path
from hdkd_dist.data.augment import Augmentation
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReadOptions
manifest = prepare_digits(Path(sys.argv[1]))
for split in ("train", "test"):
    reader = open_split(manifest, split, image_size=16, batch=100,
                        reading=ReadOptions(torch.device("cpu")),
                        augmentation=Augmentation.of(manifest))
    print(sum(len(part.labels) for part in reader.read(np.arange(reader.samples))))
"""


def test_data_are_prepared_and_read_where_ffcv_cannot_be_imported(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FFCV, str(tmp_path / "digits")],
        capture_output=True,
        text=True,
        check=True,
    )
    manifest = read_manifest(tmp_path / "digits")
    read = done.stdout.splitlines()[-2:]
    assert [int(line) for line in read] == [manifest.splits[s].samples for s in ("train", "test")]
    said = [line for line in done.stderr.splitlines() if "FFCV" in line]
    assert len(said) == 1
    assert "images are read with torch's DataLoader" in said[0]
