"""Opening a split with the reader that is asked for, or the one that is there."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hdkd_dist.data.augment import Augmentation
from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.streams import ReaderName, ReadOptions, SplitReader


def open_split(
    manifest: Manifest,
    split: str,
    *,
    image_size: int,
    batch: int,
    reading: ReadOptions,
    augmentation: Augmentation | None = None,
) -> SplitReader:
    """Open one split of a prepared data set.

    Args:
        manifest: of the data set.
        split: its name.
        image_size: side of the network's images, in pixels.
        batch: samples in a micro-batch.
        reading: with which reader, and where to.
        augmentation: what training does to the images; None leaves them as they are.

    Raises:
        ValueError: in one line, for a damaged file, or images of another size than the network's.
    """
    open_with = reader_class(reading.reader)
    return open_with(
        manifest,
        split,
        image_size=image_size,
        batch=batch,
        reading=reading,
        augmentation=augmentation,
    )


@functools.cache  # what cannot be imported is said once
def reader_class(wanted: ReaderName) -> type:
    """Return a reader's class; torch's where FFCV is wanted and cannot be imported.

    FFCV takes seconds to import and is imported only here.
    """
    if wanted == "ffcv":
        try:
            with plain_dictionaries(), unchanged_thread_count():
                import ffcv.fields.rgb_image  # noqa: F401
            from hdkd_dist.data.readers.ffcv_reader import FfcvReader

            return FfcvReader
        except (ImportError, OSError) as error:
            if os.environ.get("RANK", "0") == "0":
                print(
                    f"FFCV cannot be imported ({error}): images are read with torch's DataLoader, "
                    "as with hdkd.data.reader=torch",
                    file=sys.stderr,
                    flush=True,
                )
    from hdkd_dist.data.readers.torch_reader import TorchReader

    return TorchReader


@contextmanager
def plain_dictionaries() -> Iterator[None]:
    """Let FFCV have a plain dictionary where it asks numba for a typed one, during its import.

    It keeps two numbers there, which only Python reads; numba would compile for 4 s to hold them.
    """
    import numba.typed

    typed = numba.typed.Dict
    numba.typed.Dict = dict
    try:
        yield
    finally:
        numba.typed.Dict = typed


@contextmanager
def unchanged_thread_count() -> Iterator[None]:
    """Undo that FFCV sets torch's number of threads: to 1 when imported, then to its workers'."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
