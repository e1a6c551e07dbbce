"""The default reader: FFCV's loader, whose threads decode and augment in compiled code."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numba
import numpy as np
import torch
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import CenterCropRGBImageDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.pipeline.operation import Operation
from ffcv.transforms import Squeeze, ToDevice, ToTensor, ToTorchImage
from ffcv.traversal_order.base import TraversalOrder
from torch import Tensor

from hdkd_dist.data.augment import Augmentation
from hdkd_dist.data.beton import read_tables
from hdkd_dist.data.decoding import EVALUATION_CROP
from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.readers.ffcv_operations import (
    AugmentationKey,
    ChangeColours,
    Flip,
    RandomResizedCrop,
    Translate,
)
from hdkd_dist.data.readers.opening import unchanged_thread_count
from hdkd_dist.data.streams import MicroBatch, ReadOptions, check_image_size

_ERROR = "_hdkd_error"
_previous_hook = threading.excepthook


def _hand_over(failure: threading.ExceptHookArgs) -> None:
    """Keep a loader thread's error for :func:`raise_error` and end its queue of batches."""
    if isinstance(failure.thread, EpochIterator):
        setattr(failure.thread, _ERROR, failure.exc_value)
        failure.thread.output_queue.put(None)  # FFCV's sign of the end
    else:
        _previous_hook(failure)


threading.excepthook = _hand_over


def raise_error(batches: EpochIterator, file: str) -> None:
    """Raise what went wrong in the thread behind a pass that has ended, if anything did.

    Raises:
        RuntimeError: caused by the thread's error.
    """
    error = getattr(batches, _ERROR, None)
    if error is not None:
        raise RuntimeError(f"reading {file} failed: {error}") from error


_run = EpochIterator.run


def _run_on_own_device(batches: EpochIterator) -> None:
    """Run a loader's thread on its rank's GPU: on any other it would open a context there."""
    if torch.cuda.is_available():
        torch.cuda.set_device(batches.current_stream.device)
    _run(batches)


EpochIterator.run = _run_on_own_device


class CopyStream:
    """Where a reader's batches are copied on a GPU, beside the stream that computes; none on a CPU.

    FFCV's thread fills a buffer again when the stream that was current as the pass began has done
    with it. Were that the computing one, the thread would wait for the network's steps, and the
    next step for the thread. All passes have one stream: torch gives memory that was used on one
    to no other, and on an H200 a stream for each pass took 260 MB more at each.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def current(self) -> AbstractContextManager:
        """Make it the current stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def cloned(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Copy FFCV's views of the few buffers that it fills again, for the current stream."""
        with self.current():
            copies = [view.clone() for view in views]
        if self._stream is not None:
            computing = torch.cuda.current_stream(self._stream.device)
            computing.wait_stream(self._stream)
            for copy in copies:
                copy.record_stream(computing)
        return copies


class GivenOrder(TraversalOrder):
    """FFCV's hook for an order of ours: the samples of the pass that starts now."""

    samples: np.ndarray

    def sample_order(self, epoch: int) -> np.ndarray:
        """Return the order that was given last; FFCV's own count of epochs is not used."""
        return self.samples


class FfcvReader:
    """Read one split with FFCV; see ``SplitReader``."""

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        *,
        image_size: int,
        batch: int,
        reading: ReadOptions,
        augmentation: Augmentation | None = None,
    ):
        path = manifest.path(split)
        read_tables(path, manifest.splits[split])  # FFCV itself would not check them
        self.key = AugmentationKey()
        self.samples = manifest.splits[split].samples
        self._copies = CopyStream(reading.device)
        decoder = image_pipeline(manifest, image_size, self.key, augmentation)
        with unchanged_thread_count():
            self._loader = Loader(
                str(path),
                batch_size=batch,
                # numba refuses more threads than the process may use
                num_workers=min(reading.workers, vars(numba.config)["NUMBA_NUM_THREADS"]),
                os_cache=reading.os_cache,
                order=OrderOption.SEQUENTIAL,
                drop_last=False,
                pipelines={
                    "image": [*decoder, ToTensor(), to_device(reading.device), ToTorchImage()],
                    "label": number_pipeline(reading.device),
                    "index": number_pipeline(reading.device),
                },
            )
        self._order = GivenOrder(self._loader)
        self._loader.traversal_order = self._order

    def read(self, samples: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Iterator[MicroBatch]:
        """Yield the given samples in micro-batches, augmented for (seed, epoch)."""
        self.key.set(seed, epoch)
        self._order.samples = samples
        self._loader.first_traversal_order = samples  # FFCV's length of a pass
        copies = self._copies
        with unchanged_thread_count(), copies.current():
            batches = iter(self._loader)
        try:
            for views in batches:
                yield MicroBatch(*copies.cloned(views))
        finally:
            batches.terminate_event.set()  # also where a pass is left early
        raise_error(batches, self._loader.fname)

    def close(self) -> None:
        """Do nothing: a pass ends its threads itself."""


def image_pipeline(
    manifest: Manifest, image_size: int, key: AugmentationKey, augmentation: Augmentation | None
) -> list[Operation]:
    """Choose decoder and augmentations for images of ``image_size``.

    Raises:
        ValueError: if the data set's images all have another size.
    """
    check_image_size(manifest, image_size)
    varying = manifest.image["size"] is None
    if augmentation is None:
        if varying:
            return [CenterCropRGBImageDecoder((image_size, image_size), EVALUATION_CROP)]
        return [SimpleRGBImageDecoder()]
    operations: list[Operation] = [
        RandomResizedCrop(key, image_size) if varying else SimpleRGBImageDecoder()
    ]
    if augmentation.translate:
        operations.append(Translate(key, augmentation.translate))
    if augmentation.flip:
        operations.append(Flip(key))
    if augmentation.changes_colours:
        operations.append(ChangeColours(key, augmentation))
    return operations


def number_pipeline(device: torch.device) -> list[Operation]:
    """Labels and indices: [B] int64 on the device."""
    return [IntDecoder(), ToTensor(), Squeeze(1), to_device(device)]


def to_device(device: torch.device) -> Operation:
    """Copy to the device, waited for by the loader's thread.

    FFCV decodes into a host buffer again without asking whether an asynchronous copy from it has
    run: with many micro-batches queued on a GPU, images would be overwritten on their way.
    """
    return ToDevice(device, non_blocking=False)
