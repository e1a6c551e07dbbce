"""A reader in plain torch: a map-style data set over a ``.beton`` file, and a ``DataLoader``.

It needs numpy, Pillow and OpenCV, and runs where FFCV does not. Order, labels and augmentation are
FFCV's; so are the pixels, but for the last bits of what is decoded from JPEG.
"""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from hdkd_dist.data.augment import (
    SHIFT_COLUMNS,
    SHIFT_ROWS,
    Augmentation,
    central_crop,
    is_flipped,
    random_crop,
    shift,
)
from hdkd_dist.data.beton import RAW, Tables, read_tables
from hdkd_dist.data.colours import change_colours
from hdkd_dist.data.decoding import EVALUATION_CROP
from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.streams import MicroBatch, ReadOptions, check_image_size

REQUESTS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


class Request(NamedTuple):
    """Ask for one micro-batch: which samples, augmented for which seed and epoch."""

    seed: int
    epoch: int
    samples: np.ndarray  # [B]


class BetonImages(Dataset):
    """Give micro-batches of a ``.beton`` file on request; runs in the workers."""

    def __init__(
        self,
        path: Path,
        tables: Tables,
        image_size: int,
        varying: bool,
        augmentation: Augmentation | None,
    ) -> None:
        """Read from ``path``; images of ``varying`` sizes become ``image_size`` by a crop."""
        self.path = path
        self.tables = tables
        self.image_size = image_size
        self.varying = varying
        self.augmentation = augmentation

    @cached_property
    def stored(self) -> np.ndarray:
        """Map the file into memory, in each worker: the system's page cache is shared."""
        return np.memmap(self.path, np.uint8, "r")

    def __getitem__(self, request: Request) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images [B, S, S, 3] uint8, labels [B] and indices [B] int64."""
        samples = request.samples
        images = np.empty((len(samples), self.image_size, self.image_size, 3), np.uint8)
        with np.errstate(over="ignore"):  # as the mixing of bits wants it
            for place, sample in enumerate(samples.tolist()):
                images[place] = self.image(request.seed, request.epoch, sample)
        return images, self.tables.samples["label"][samples], samples

    def image(self, seed: int, epoch: int, sample: int) -> np.ndarray:
        """Return one image as training or evaluation sees it, [S, S, 3] uint8."""
        pixels = self.decoded(sample)
        wanted = self.augmentation
        if self.varying:
            height, width = pixels.shape[:2]
            crop = (
                central_crop(EVALUATION_CROP, height, width)
                if wanted is None
                else random_crop(seed, epoch, sample, height, width)
            )
            pixels = resized_crop(pixels, crop, self.image_size)
        if wanted is None:
            return pixels
        if wanted.translate:
            down = shift(seed, epoch, sample, SHIFT_ROWS, wanted.translate)
            right = shift(seed, epoch, sample, SHIFT_COLUMNS, wanted.translate)
            pixels = translated(pixels, down, right)
        if wanted.flip and is_flipped(seed, epoch, sample):
            pixels = pixels[:, ::-1]
        if wanted.changes_colours:
            pixels = change_colours(pixels, wanted, seed, epoch, sample)
        return pixels

    def decoded(self, sample: int) -> np.ndarray:
        """Return an image as it is stored, [H, W, 3] uint8."""
        record, place = self.tables.samples["image"][sample], self.tables.places[sample]
        start = int(place["ptr"])
        stored = self.stored[start : start + int(place["size"])]
        if record["mode"] == RAW:
            return stored.reshape(record["height"], record["width"], 3)
        with Image.open(io.BytesIO(stored.tobytes()), formats=("JPEG",)) as image:
            return np.asarray(image.convert("RGB"))


def resized_crop(pixels: np.ndarray, crop: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Cut ``crop`` (top, left, height, width) out and resize it to [size, size, 3], as FFCV does.

    Each new pixel is the mean of the area that it covers (OpenCV's ``INTER_AREA``).
    """
    top, left, height, width = crop
    part = pixels[top : top + height, left : left + width]
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)


def translated(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move an image [H, W, 3] by whole pixels, filling with black."""
    height, width = pixels.shape[:2]
    moved = np.zeros_like(pixels)
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = pixels[
        max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return moved


class Requests(Sampler):
    """Hand the loader the micro-batches of the pass that starts now."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        return iter(self.waiting)


class TorchReader:
    """Read one split with torch's ``DataLoader``; see ``SplitReader``.

    The workers of an augmenting reader live on between passes, as training reads without end;
    an evaluation starts and ends its own.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        *,
        image_size: int,
        batch: int,
        reading: ReadOptions,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._path = manifest.path(split)
        tables = read_tables(self._path, manifest.splits[split])
        check_image_size(manifest, image_size)
        varying = manifest.image["size"] is None
        self.samples = manifest.splits[split].samples
        self._batch = batch
        self._device = reading.device
        self._requests = Requests()
        self._loader: DataLoader | None = DataLoader(
            BetonImages(self._path, tables, image_size, varying, augmentation),
            batch_size=None,  # a request is a whole micro-batch
            sampler=self._requests,
            num_workers=min(reading.workers, len(os.sched_getaffinity(0))),
            persistent_workers=augmentation is not None,
            worker_init_fn=serve_parent,
            pin_memory=reading.device.type != "cpu",
            generator=torch.Generator(),  # the loader draws a seed that nobody needs: not torch's
        )

    def read(self, samples: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Iterator[MicroBatch]:
        """Yield the given samples in micro-batches, augmented for (seed, epoch)."""
        if self._loader is None:
            raise RuntimeError(f"the reader of {self._path} is closed")
        starts = range(0, len(samples), self._batch)
        self._requests.waiting = [
            Request(seed, epoch, samples[start : start + self._batch]) for start in starts
        ]
        with requests_blocked():
            batches = iter(self._loader)
        while parts := self._next(batches):
            images, labels, indices = (part.to(self._device, non_blocking=True) for part in parts)
            yield MicroBatch(images.permute(0, 3, 1, 2), labels, indices)

    def _next(self, batches: Iterator[Any]) -> Any:
        """Return the next micro-batch, None after the last; an error names the file."""
        try:
            return next(batches, None)
        except Exception as error:
            what = str(error).strip().rpartition("\n")[2]  # before it comes the worker's traceback
            raise RuntimeError(f"reading {self._path} failed: {what}") from error

    def close(self) -> None:
        """End the workers that live on between passes."""
        self._loader = None


@contextmanager
def requests_blocked() -> Iterator[None]:
    """Start processes that never see requests to stop.

    A batch system sends those to all processes of a job, a terminal's Ctrl-C, too. They must end
    the training process alone, which may still save its state, and so still needs its workers.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve_parent(_: int) -> None:
    """Prepare a worker, which ends when the process that started it says so, and for no other."""
    cv2.setNumThreads(1)  # its threads do not survive a fork, and workers are many anyway
    threading.Thread(target=obey, args=(os.getppid(),), daemon=True).start()


def obey(parent: int) -> None:
    """Wait for ``parent`` to end this process, as Python does when it ends itself."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
