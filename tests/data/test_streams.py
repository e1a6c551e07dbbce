"""Streams of real .beton files, by both readers: order, augmentation and coverage."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from photographs import CPU, SAMPLES, SIDE, fixed_set, photographs, varying_set

from hdkd_dist.data.augment import Augmentation
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.order import BatchShare, train_order
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import (
    AsTheyCome,
    ReadOptions,
    evaluation_pass,
    examples_of,
    in_steps,
    metaval_stream,
    train_epoch,
)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    return fixed_set(tmp_path_factory.mktemp("fixed") / "fixed")


@pytest.fixture(scope="module")
def varying(tmp_path_factory):
    return varying_set(tmp_path_factory.mktemp("varying") / "varying")


@pytest.fixture(scope="module", params=["ffcv", "torch"])
def reading(request):
    return ReadOptions(CPU, reader=request.param)


@pytest.fixture(scope="module")
def readers(fixed, reading):
    """One reader per micro-batch size and number of workers: each compiles its pipeline once."""
    made = {}

    def reader(batch, workers=1):
        key = (batch, workers)
        if key not in made:
            made[key] = open_split(
                fixed,
                "train",
                image_size=SIDE,
                batch=batch,
                reading=replace(reading, workers=workers),
                augmentation=Augmentation.of(fixed),
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
    reference = collect(epoch(readers(8), BatchShare(16, 2), 1))
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


def noted(count, events):
    """Numbers in place of micro-batches, with a note of when each is read."""
    for number in range(count):
        events.append(f"read {number}")
        yield number


def test_micro_batch_is_read_when_the_one_before_is_computed():
    events = []
    for step in in_steps(noted(4, events), 2):
        for number in step:
            events.append(f"compute {number}")
        assert list(step) == [number - 1, number]  # and not read again
    assert events == [f"{what} {number}" for number in range(4) for what in ("read", "compute")]


def test_step_that_is_not_finished_takes_nothing_from_the_next():
    firsts = [step[0] for step in in_steps(noted(6, []), 3)]
    assert firsts == [0, 3]


def test_sequence_of_what_comes_is_one():
    events = []
    sequence = AsTheyCome(noted(10, events), 3)
    assert (len(sequence), sequence[1], events) == (3, 1, ["read 0", "read 1"])
    assert (sequence[-1], sequence[:2], list(sequence)) == (2, [0, 1], [0, 1, 2])
    with pytest.raises(IndexError):
        sequence[3]


def test_examples_are_those_of_the_micro_batches(readers):
    share = BatchShare(16, 2)
    (step,) = islice(train_epoch(readers(8), share, seed=3, epoch=1), 1)
    for (images, labels), micro in zip(examples_of(step), step, strict=True):
        assert images is micro.images
        assert labels is micro.labels


def test_start_in_the_midst_reads_nothing_of_what_came_before(readers, monkeypatch):
    read = []
    reader = readers(8)
    monkeypatch.setattr(reader, "read", lambda samples, **_: read.append(samples) or iter(()))
    list(train_epoch(reader, BatchShare(16, 2), seed=3, epoch=1, first_step=1))
    assert [len(samples) for samples in read] == [SAMPLES // 16 * 16 - 16]


@pytest.fixture(scope="module")
def plain(fixed, reading):
    return open_split(fixed, "test", image_size=SIDE, batch=4, reading=reading)


def test_evaluation_is_plain_and_counts_once(plain):
    parts = [batch for rank in range(3) for batch in evaluation_pass(plain, rank, 3)]
    indices, images = collect(parts)
    assert sorted(indices.tolist()) == list(range(SAMPLES))
    originals = np.stack(photographs([(SIDE, SIDE)] * SAMPLES)) + 10
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), originals)


def test_batches_are_not_views_of_a_buffer_that_is_filled_again(readers):
    batches = epoch(readers(8), BatchShare(8), 0)
    kept = [batch.images.clone() for batch in batches]
    list(epoch(readers(8), BatchShare(8), 1))
    assert all(torch.equal(b.images, k) for b, k in zip(batches, kept, strict=True))


def test_random_resized_crop_is_deterministic_and_covers_the_image(varying, reading):
    def pass_over(workers, number):
        reader = open_split(
            varying,
            "train",
            image_size=16,
            batch=8,
            reading=replace(reading, workers=workers),
            augmentation=Augmentation.of(varying),
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


def test_variable_sizes_are_evaluated_on_a_central_crop(varying, reading):
    reader = open_split(varying, "test", image_size=16, batch=8, reading=reading)
    _, images = collect(evaluation_pass(reader, 0, 1))
    for sample in (0, 13):
        height, width = 60 + sample % 7, 50 + sample % 11
        centre = images[sample].float().mean(dim=(1, 2))
        assert abs(float(centre[0]) - (height - 1) / 2) < 1.5
        assert abs(float(centre[1]) - (width - 1) / 2) < 1.5
        shown = float(images[sample, 0].max()) - float(images[sample, 0].min())
        assert abs(shown - 224 / 256 * min(height, width)) < 5


def test_more_workers_than_cores_are_as_many_as_cores(fixed, reading):
    reader = open_split(
        fixed, "test", image_size=SIDE, batch=16, reading=replace(reading, workers=1000)
    )
    assert len(list(evaluation_pass(reader, 0, 1))) == 3


def test_batches_are_copies_of_their_own(plain):
    """Readers may fill few buffers again and again."""
    batches = list(plain.read(np.arange(SAMPLES)))
    assert len({batch.images.data_ptr() for batch in batches}) == SAMPLES // 4


def test_normalisation():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    normalize = Normalize.of([0.5, 0.5, 0.2], [0.25, 0.5, 0.1], "cpu")
    found = normalize(images).flatten()
    torch.testing.assert_close(found, torch.tensor([-2.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_digits_are_ready_to_read(tmp_path, reading):
    manifest = prepare_digits(tmp_path / "digits")
    reader = open_split(manifest, "test", image_size=16, batch=100, reading=reading)
    batch = next(iter(list(reader.read(np.arange(100)))))
    assert batch.images.shape == (100, 3, 16, 16)
    assert replace(manifest, folder=tmp_path).classes == tuple("0123456789")
