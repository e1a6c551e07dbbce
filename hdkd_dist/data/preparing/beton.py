"""Writing one split as a ``.beton`` file, byte for byte as FFCV writes it.

FFCV's ``DatasetWriter`` is not used: it waits for ever for a worker that died, does not notice
short writes on a full disk, lays pages out in the order in which workers finish, and takes ten
seconds to import. Here workers encode and this process alone writes, in order, so that the file is
the same for any number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from hdkd_dist.data.beton import (
    FIELDS,
    HEADER,
    IMAGE,
    JPEG,
    PLACE,
    RAW,
    SAMPLE,
    VERSION,
    field_table,
)
from hdkd_dist.data.decoding import open_image, orientation_of
from hdkd_dist.data.preparing.workers import ordered_map, progress_bar

WRITE_MODES = ("raw", "jpg", "proportion")
MIN_PAGE_SIZE, MAX_PAGE_SIZE = 1 << 21, 1 << 32  # FFCV's, in bytes


@dataclass(frozen=True)
class Jpeg:
    """Hold a JPEG file that is stored as it is, and its sides in pixels."""

    data: bytes
    width: int
    height: int


# An image, [H,W,3] uint8, a PIL image in RGB or a JPEG, and its label.
Sample: TypeAlias = "tuple[np.ndarray | Image.Image | Jpeg, int]"


class Samples(Protocol):
    """Give the samples of one split, by position."""

    def __len__(self) -> int:
        """Return their number."""

    def __getitem__(self, index: int) -> Sample:
        """Return the sample at ``index``, read or decoded when asked for."""


@dataclass(frozen=True)
class FieldOptions:
    """Say how images are stored.

    Attributes:
        write_mode: ``"raw"`` pixels, ``"jpg"``, or ``"proportion"``: JPEG for a part of the images.
        keep_jpegs: under ``"jpg"``, JPEGs that need no change are stored as they are.
        max_side: larger images are shrunk to this longer side; None keeps all sizes.
        quality: of the JPEGs.
        proportion: the part stored as JPEG under ``"proportion"``, drawn per image and seeded.
    """

    write_mode: str = "raw"
    max_side: int | None = None
    quality: int = 90
    proportion: float = 0.5
    keep_jpegs: bool = False

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for what cannot be stored so."""
        if self.write_mode not in WRITE_MODES:
            modes = ", ".join(WRITE_MODES)
            raise ValueError(f"--write_mode is {self.write_mode!r}: choose one of {modes}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"--quality is {self.quality!r}: it must be from 1 to 100")
        if not isinstance(self.proportion, int | float) or not 0 <= self.proportion <= 1:
            raise ValueError(f"--proportion is {self.proportion!r}: it must be from 0 to 1")


def jpeg_as_it_is(data: bytes, options: FieldOptions) -> Jpeg | None:
    """Return a file's content if it may be stored unchanged: a small, upright JPEG in RGB or gray.

    FFCV could not show the colours of other ones, and does not know of EXIF's orientation.
    """
    if options.write_mode != "jpg" or not options.keep_jpegs:
        return None
    image = open_image(data)
    plain = image.format == "JPEG" and image.mode in ("RGB", "L") and orientation_of(image) == 1
    small = options.max_side is None or max(image.size) <= options.max_side
    return Jpeg(data, *image.size) if plain and small else None


class ArraySamples:
    """Part of a data set that is held in memory as one array."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, positions: Sequence[int] | np.ndarray
    ) -> None:
        """Take ``positions`` out of ``images`` [N,H,W,3] uint8 and ``labels`` [N]."""
        self.images = images
        self.labels = labels
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        position = self.positions[index]
        return self.images[position], int(self.labels[position])


CHUNK = 16  # samples per job: 16 raw images of 500 px are 12 MB


class PageTooSmallError(Exception):
    """A sample does not fit into one page; ``size`` is the number of bytes it needs."""

    def __init__(self, size: int) -> None:
        super().__init__(f"a sample needs {size:,} bytes")
        self.size = size


class Encoder:
    """Encodes chunks of samples; runs in the workers."""

    def __init__(self, samples: Samples, options: FieldOptions, split: str) -> None:
        self.samples = samples
        self.options = options
        self.split = split

    def __call__(self, positions: range) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Return image metadata (one record), stored bytes and label for each position."""
        cv2.setNumThreads(1)  # its thread pool does not survive a fork
        return [self.encode(position) for position in positions]

    def encode(self, position: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Encode one sample; ``ValueError`` names it if that fails."""
        try:
            image, label = self.samples[position]
            record = np.zeros(1, IMAGE)
            if isinstance(image, Jpeg):
                record["mode"], record["width"], record["height"] = JPEG, image.width, image.height
                return record, np.frombuffer(image.data, np.uint8), int(label)
            pixels = shrunk(as_pixels(image), self.options.max_side)
            record["height"], record["width"] = pixels.shape[:2]
            record["mode"] = JPEG if self.becomes_jpeg(position) else RAW
            stored = encode_jpeg(pixels, self.options.quality) if record["mode"] == JPEG else pixels
        except Exception as error:
            raise ValueError(
                f"cannot encode image {position} of the {self.split} split: {error}"
            ) from error
        return record, np.ascontiguousarray(stored).reshape(-1), int(label)

    def becomes_jpeg(self, position: int) -> bool:
        """Tell whether an image is stored as JPEG; drawn per image under ``"proportion"``."""
        if self.options.write_mode == "proportion":
            return bool(np.random.RandomState(position).rand() < self.options.proportion)
        return self.options.write_mode == "jpg"


def as_pixels(image: np.ndarray | Image.Image) -> np.ndarray:
    """Return an image's pixels; ``ValueError`` unless they are [H, W, 3] uint8."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"it has the shape {pixels.shape} of {pixels.dtype}, not [H, W, 3] uint8")
    return pixels


def shrunk(pixels: np.ndarray, max_side: int | None) -> np.ndarray:
    """Shrink [H, W, 3] so that the longer side has ``max_side`` pixels, unless it is smaller."""
    height, width = pixels.shape[:2]
    ratio = max_side / max(height, width) if max_side else 1.0
    if ratio >= 1:
        return pixels
    size = (int(ratio * width), int(ratio * height))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def encode_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Return the bytes of a JPEG file of [H, W, 3] pixels."""
    colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", colours, [int(cv2.IMWRITE_JPEG_QUALITY), quality])
    if not done:
        raise ValueError("OpenCV cannot make a JPEG of it")
    return encoded


def write_file(path: Path, encoder: Encoder, page_size: int, workers: int, progress: tqdm) -> None:
    """Write header, field descriptions, metadata, pages of images, and the allocation table."""
    samples = len(encoder.samples)
    header = np.zeros((), HEADER)
    header["version"] = VERSION
    header["num_fields"] = len(FIELDS)
    header["page_size"] = page_size
    header["num_samples"] = samples
    descriptions = field_table()
    metadata = np.zeros(samples, SAMPLE)
    table = np.zeros(samples, PLACE)
    end = align_to_page(header.nbytes + descriptions.nbytes + metadata.nbytes, page_size)
    jobs = (range(i, min(i + CHUNK, samples)) for i in range(0, samples, CHUNK))
    encoded = ordered_map(encoder, jobs, workers)
    with closing(encoded), open(path, "wb") as file:
        index = 0
        for chunk in encoded:
            for record, stored, label in chunk:
                start = place(end, stored.nbytes, page_size)
                file.seek(start)
                file.write(stored.data)
                end = start + stored.nbytes
                record["data_ptr"] = start
                metadata[index] = (record[0], label, index)
                table[index] = (index, start, stored.nbytes)
                index += 1
            progress.update(len(chunk))
        header["alloc_table_ptr"] = file.seek(align_to_page(end, page_size))
        file.write(table.tobytes())
        file.seek(0)
        file.write(header.tobytes() + descriptions.tobytes() + metadata.tobytes())


def align_to_page(position: int, page_size: int) -> int:
    """Return the first position at or after ``position`` where a page begins."""
    return -(-position // page_size) * page_size


def place(end: int, size: int, page_size: int) -> int:
    """Return where ``size`` bytes go after ``end``: no sample may cross a page's end."""
    if size > page_size:
        raise PageTooSmallError(size)
    fits = end % page_size + size <= page_size
    return end if fits else align_to_page(end, page_size)


def write_beton(
    path: Path,
    samples: Samples,
    options: FieldOptions,
    workers: int,
    page_size: int = MIN_PAGE_SIZE,
) -> None:
    """Write ``samples`` to ``path`` with the fields image, label and index (position).

    Args:
        path: the file; its stem names the split in progress and errors.
        samples: pairs of an image ([H,W,3] uint8, a PIL image in RGB, or a JPEG) and a label.
        options: how images are stored.
        workers: processes that encode; the file does not depend on it.
        page_size: power of 2; the smallest that FFCV allows serves random access best. A larger
            one is taken where a sample needs it.

    Raises:
        ValueError: an image that cannot be encoded, a dead worker, a full disk.
    """
    encoder = Encoder(samples, options, path.stem)
    try:
        with progress_bar(len(samples), f"writing {path.stem}") as progress:
            write_file(path, encoder, page_size, workers, progress)
    except PageTooSmallError as error:
        page_size = 1 << (error.size - 1).bit_length()
        if page_size >= MAX_PAGE_SIZE:
            raise ValueError(f"{path.stem}: {error}, more than FFCV can store") from error
        write_beton(path, samples, options, workers, page_size)
    except OSError as error:
        raise ValueError(
            f"cannot write {path}: {error.strerror}; free some space or choose another --out"
        ) from error
