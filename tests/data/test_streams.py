"""FFCV streams of real .beton files: order, augmentation and coverage."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.transforms import ToTensor

from hdkd_dist.data import streams
from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.order import BatchShare, train_order
from hdkd_dist.data.preparing.beton import ArraySamples, FieldOptions
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.data.preparing.write import write_data_set
from hdkd_dist.data.streams import (
    ReadOptions,
    SplitReader,
    evaluation_pass,
    image_pipeline,
    metaval_stream,
    train_epoch,
)

CPU = torch.device("cpu")
SIDE, SAMPLES = 8, 40


def photographs(sizes):
    """Images whose every pixel is its own: red is the row, green the column, blue the image."""
    images = []
    for number, (height, width) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width]
        blue = np.full((height, width), number)
        images.append(np.stack([rows, columns, blue], axis=-1).astype(np.uint8))
    return images


def write(folder, images, size, augmentation):
    labels = np.arange(len(images)) % 2
    samples = ArraySamples(images, labels, range(len(images)))
    write_data_set(
        folder,
        job={"data": folder.name},
        splits={"train": samples, "metaval": samples, "test": samples},
        name=folder.name,
        classes=["even", "odd"],
        image={"size": size, "mean": [0.5] * 3, "std": [0.25] * 3},
        augmentation=augmentation,
        options=FieldOptions(write_mode="raw"),
        workers=1,
    )
    return read_manifest(folder)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed") / "fixed"
    images = np.stack(photographs([(SIDE, SIDE)] * SAMPLES)) + 10  # black is the filling alone
    return write(folder, images, SIDE, {"flip": True, "translate": 2})


@pytest.fixture(scope="module")
def varying(tmp_path_factory):
    folder = tmp_path_factory.mktemp("varying") / "varying"
    images = photographs([(60 + n % 7, 50 + n % 11) for n in range(SAMPLES)])
    return write(folder, images, None, {"flip": True, "resized_crop": True})


@pytest.fixture(scope="module")
def readers(fixed):
    """One reader per micro-batch size and number of workers: each compiles its pipeline once."""
    made = {}

    def reader(batch, workers=1):
        key = (batch, workers)
        if key not in made:
            made[key] = SplitReader(
                fixed,
                "train",
                image_size=SIDE,
                batch=batch,
                reading=ReadOptions(CPU, workers),
                augment=True,
            )
        return made[key]

    return reader


def collect(batches):
    """All samples of a pass, by index: indices in order, and images sorted by index."""
    batches = list(batches)
    indices = torch.cat([batch.indices for batch in batches])
    images = torch.cat([batch.images for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    assert torch.equal(labels, indices % 2)
    return indices, images[indices.argsort()]


def epoch(reader, share, number, seed=3):
    steps = list(train_epoch(reader, share, seed=seed, epoch=number))
    assert all(len(step) == share.accumulation for step in steps)
    return [batch for step in steps for batch in step]


def test_stream_is_the_same_for_any_ranks_accumulation_and_workers(readers):
    reference = collect(epoch(readers(16), BatchShare(16), 1))
    layouts = [(1, 4, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2)]
    for ranks, accumulation, workers in layouts:
        parts = []
        for rank in range(ranks):
            share = BatchShare(16, accumulation, rank, ranks)
            batches = epoch(readers(share.micro_batch, workers), share, 1)
            expected = train_order(3, 1, SAMPLES, share)
            assert np.array_equal(torch.cat([b.indices for b in batches]).numpy(), expected)
            parts += batches
        indices, images = collect(parts)
        assert sorted(indices.tolist()) == sorted(reference[0].tolist())
        assert torch.equal(images, reference[1])


def test_augmentation_depends_on_seed_and_epoch_and_repeats(readers):
    share = BatchShare(8)  # divides the split: every sample comes in every epoch
    _, first = collect(epoch(readers(8), share, 0))
    _, second = collect(epoch(readers(8), share, 1))
    _, again = collect(epoch(readers(8), share, 0))
    _, other_seed = collect(epoch(readers(8), share, 0, seed=4))
    assert torch.equal(first, again)
    for different in (second, other_seed):
        changed = (first != different).flatten(1).any(dim=1)
        assert changed.float().mean() > 0.7  # of 50 equally likely views, few repeat


def test_flip_and_translation_are_what_they_say(readers):
    _, images = collect(epoch(readers(8), BatchShare(8), 0))
    columns = images[:, 1].float()
    inside = images[:, 2] > 0
    flipped, shifts = 0, set()
    for sample in range(SAMPLES):
        rows = inside[sample].any(dim=1).nonzero().ravel()
        span = inside[sample].any(dim=0).nonzero().ravel()
        assert len(rows) >= SIDE - 2
        assert len(span) >= SIDE - 2
        line = columns[sample, rows[0], span]
        step = torch.diff(line).unique().tolist()
        assert step in ([1.0], [-1.0])
        flipped += step == [-1.0]
        top = int(images[sample, 0, rows[0], span[0]]) - 10
        shifts.add(int(rows[0]) - top)
    assert 8 < flipped < 32
    assert shifts == {-2, -1, 0, 1, 2}


def test_metaval_stream_goes_on_and_has_its_own_augmentation(readers):
    share = BatchShare(16, 2)
    steps = list(islice(metaval_stream(readers(8), share, seed=3), 7))
    drawn = torch.cat([batch.indices for step in steps for batch in step])
    counts = torch.bincount(drawn[: 2 * SAMPLES], minlength=SAMPLES)
    assert (counts == 2).all()
    first_pass = [batch for step in steps[:5] for batch in step][:5]
    _, train = collect(epoch(readers(8), BatchShare(8), 0))
    seen = {int(i): img for b in first_pass for i, img in zip(b.indices, b.images, strict=True)}
    assert sum(not torch.equal(image, train[i]) for i, image in seen.items()) > 0.7 * len(seen)


def contents(steps):
    return [[(b.indices.tolist(), b.images.tolist()) for b in step] for step in steps]


def test_streams_start_in_the_midst_with_what_would_have_come_there(readers):
    share = BatchShare(16, 2)
    whole = contents(train_epoch(readers(8), share, seed=3, epoch=1))
    steps = len(whole)
    for first in (1, steps - 1, steps):
        rest = train_epoch(readers(8), share, seed=3, epoch=1, first_step=first)
        assert contents(rest) == whole[first:]
    drawn = contents(islice(metaval_stream(readers(8), share, seed=3), 8))
    for first in (1, 2, 5):  # a round has two steps
        rest = metaval_stream(readers(8), share, seed=3, first_step=first)
        assert contents(islice(rest, 8 - first)) == drawn[first:]


def test_start_in_the_midst_reads_nothing_of_what_came_before(readers, monkeypatch):
    read = []
    reader = readers(8)
    monkeypatch.setattr(reader, "read", lambda samples, **_: read.append(samples) or iter(()))
    list(train_epoch(reader, BatchShare(16, 2), seed=3, epoch=1, first_step=1))
    assert [len(samples) for samples in read] == [SAMPLES // 16 * 16 - 16]


def test_evaluation_is_plain_and_counts_once(fixed):
    reader = SplitReader(
        fixed, "test", image_size=SIDE, batch=16, reading=ReadOptions(CPU), augment=False
    )
    parts = [batch for rank in range(3) for batch in evaluation_pass(reader, rank, 3)]
    indices, images = collect(parts)
    assert sorted(indices.tolist()) == list(range(SAMPLES))
    originals = np.stack(photographs([(SIDE, SIDE)] * SAMPLES)) + 10
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), originals)


def test_batches_are_not_views_of_a_buffer_that_is_filled_again(readers):
    batches = epoch(readers(8), BatchShare(8), 0)
    kept = [batch.images.clone() for batch in batches]
    list(epoch(readers(8), BatchShare(8), 1))
    assert all(torch.equal(b.images, k) for b, k in zip(batches, kept, strict=True))


def test_random_resized_crop_is_deterministic_and_covers_the_image(varying):
    def pass_over(workers, number):
        reader = SplitReader(
            varying,
            "train",
            image_size=16,
            batch=8,
            reading=ReadOptions(CPU, workers),
            augment=True,
        )
        return [collect(reader.read(np.arange(SAMPLES), seed=1, epoch=e))[1] for e in number]

    first, second = pass_over(1, (0, 1))
    (threaded,) = pass_over(2, (0,))
    assert torch.equal(first, threaded)
    assert (first != second).flatten(1).any(dim=1).float().mean() > 0.9
    # Colours are positions: a crop shows a part of the image, of at least 8 % of its area.
    for sample in range(SAMPLES):
        height, width = 60 + sample % 7, 50 + sample % 11
        shown = first[sample].float()
        heights = (shown[0].max() - shown[0].min()) / height
        widths = (shown[1].max() - shown[1].min()) / width
        assert 0.05 < heights * widths <= 1
        assert (shown[2] == sample).all()


def test_variable_sizes_are_evaluated_on_a_central_crop(varying):
    reader = SplitReader(
        varying, "test", image_size=16, batch=8, reading=ReadOptions(CPU), augment=False
    )
    _, images = collect(evaluation_pass(reader, 0, 1))
    for sample in (0, 13):
        height, width = 60 + sample % 7, 50 + sample % 11
        centre = images[sample].float().mean(dim=(1, 2))
        assert abs(float(centre[0]) - (height - 1) / 2) < 1.5
        assert abs(float(centre[1]) - (width - 1) / 2) < 1.5
        shown = float(images[sample, 0].max()) - float(images[sample, 0].min())
        assert abs(shown - 224 / 256 * min(height, width)) < 5


def test_more_workers_than_cores_are_as_many_as_cores(fixed):
    reader = SplitReader(
        fixed, "test", image_size=SIDE, batch=16, reading=ReadOptions(CPU, 1000), augment=False
    )
    assert len(list(evaluation_pass(reader, 0, 1))) == 3


def test_pass_that_is_left_early_ends_its_thread(readers):
    before = threading.active_count()
    batches = readers(4).read(np.arange(SAMPLES))
    next(batches)
    batches.close()
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert threading.active_count() == before


def test_reading_leaves_torch_its_threads(fixed):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        reader = SplitReader(
            fixed, "test", image_size=SIDE, batch=16, reading=ReadOptions(CPU), augment=False
        )
        list(reader.read(np.arange(16)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Broken(ToTensor):
    """A stage that fails at the first batch, as one does on a file that is gone."""

    def generate_code(self):
        def fail(images, out):
            raise OSError("the disk is gone")

        return fail


def test_error_in_the_loader_thread_does_not_hang_the_run(fixed, monkeypatch):
    monkeypatch.setattr(streams, "ToTensor", Broken)
    reader = SplitReader(
        fixed, "test", image_size=SIDE, batch=16, reading=ReadOptions(CPU), augment=False
    )
    with pytest.raises(RuntimeError, match=r"reading .*test.beton failed: the disk is gone"):
        list(reader.read(np.arange(SAMPLES)))


def test_loader_thread_takes_its_rank_s_device_first(fixed, monkeypatch):
    """Otherwise it would open a context on GPU 0, on every rank."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: taken.append(device))
    monkeypatch.setattr(EpochIterator, "current_stream", SimpleNamespace(device="cuda:3"), False)
    reader = SplitReader(
        fixed, "test", image_size=SIDE, batch=16, reading=ReadOptions(CPU), augment=False
    )
    assert sum(len(batch.labels) for batch in reader.read(np.arange(SAMPLES))) == SAMPLES
    assert taken == ["cuda:3"]


def test_batches_are_copies_of_their_own(fixed):
    """FFCV fills its few buffers again."""
    reader = SplitReader(
        fixed, "test", image_size=SIDE, batch=4, reading=ReadOptions(CPU), augment=False
    )
    batches = list(reader.read(np.arange(SAMPLES)))
    assert len({batch.images.data_ptr() for batch in batches}) == SAMPLES // 4


def test_network_of_another_size_is_refused(fixed):
    with pytest.raises(ValueError, match=r"takes images of 32 px but those in .* have 8"):
        image_pipeline(fixed, 32, None)


def test_normalisation():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    normalize = Normalize.of([0.5, 0.5, 0.2], [0.25, 0.5, 0.1], "cpu")
    found = normalize(images).flatten()
    torch.testing.assert_close(found, torch.tensor([-2.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_digits_are_ready_to_read(tmp_path):
    manifest = prepare_digits(tmp_path / "digits")
    reader = SplitReader(
        manifest, "test", image_size=16, batch=100, reading=ReadOptions(CPU), augment=False
    )
    batch = next(iter(list(reader.read(np.arange(100)))))
    assert batch.images.shape == (100, 3, 16, 16)
    assert replace(manifest, folder=tmp_path).classes == tuple("0123456789")
