"""FFCV's threads: they end, fail aloud, and leave torch and other ranks' devices alone."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.transforms import ToTensor
from photographs import CPU, SAMPLES, SIDE, fixed_set

from hdkd_dist.data.readers import ffcv_reader
from hdkd_dist.data.readers.ffcv_reader import FfcvReader
from hdkd_dist.data.streams import ReadOptions


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return fixed_set(tmp_path_factory.mktemp("fixed") / "fixed")


def opened(manifest, batch=16):
    return FfcvReader(manifest, "test", image_size=SIDE, batch=batch, reading=ReadOptions(CPU))


def test_pass_that_is_left_early_ends_its_thread(manifest):
    before = threading.active_count()
    batches = opened(manifest, batch=4).read(np.arange(SAMPLES))
    next(batches)
    batches.close()
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert threading.active_count() == before


def test_reading_leaves_torch_its_threads(manifest):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        reader = opened(manifest)
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


def test_error_in_the_loader_thread_does_not_hang_the_run(manifest, monkeypatch):
    monkeypatch.setattr(ffcv_reader, "ToTensor", Broken)
    reader = opened(manifest)
    with pytest.raises(RuntimeError, match=r"reading .*test.beton failed: the disk is gone"):
        list(reader.read(np.arange(SAMPLES)))


def test_loader_thread_takes_its_rank_s_device_first(manifest, monkeypatch):
    """Otherwise it would open a context on GPU 0, on every rank."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: taken.append(device))
    monkeypatch.setattr(EpochIterator, "current_stream", SimpleNamespace(device="cuda:3"), False)
    reader = opened(manifest)
    assert sum(len(batch.labels) for batch in reader.read(np.arange(SAMPLES))) == SAMPLES
    assert taken == ["cuda:3"]
