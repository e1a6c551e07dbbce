"""The streams of a run, whatever reads them: training, meta-validation, and evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar, overload

import numpy as np
import torch
from torch import Tensor

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.order import (
    METAVAL,
    TRAIN,
    BatchShare,
    evaluation_order,
    metaval_order,
    metaval_steps,
    train_order,
)

ReaderName: TypeAlias = Literal["ffcv", "torch"]
Item = TypeVar("Item")


class MicroBatch(NamedTuple):
    """A micro-batch on the run's device."""

    images: Tensor  # [B, 3, H, W], uint8
    labels: Tensor  # [B], int64
    indices: Tensor  # [B], int64: positions in the split

    @property
    def examples(self) -> tuple[Tensor, Tensor]:
        """What a loss needs: images and labels."""
        return self.images, self.labels


@dataclass(frozen=True)
class ReadOptions:
    """How a process reads: none of it changes the order, the labels or what is augmented how.

    The readers' pixels are equal for images stored raw and not resized; otherwise they differ as
    two decoders of JPEG do.
    """

    device: torch.device
    workers: int = 1  # threads or processes, as the reader has them
    os_cache: bool = True  # FFCV: share the page cache between the ranks of a node
    reader: ReaderName = "ffcv"  # torch's is taken where FFCV cannot be imported


class SplitReader(Protocol):
    """Read one split of a prepared data set in any order, augmented or not.

    All that training and evaluation need of a reader; what the streams contain follows from it.
    """

    @property
    def samples(self) -> int:
        """Return how many samples the split has."""

    def read(self, samples: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Iterator[MicroBatch]:
        """Yield the given samples, in their order, in micro-batches on the run's device.

        Augmentation, where the reader was opened with it, is a function of (seed, epoch, sample).
        Only one pass is under way at a time; it may be left early.

        Args:
            samples: [N] positions in the split.
            seed: of the augmentation.
            epoch: of the augmentation.

        Raises:
            RuntimeError: naming the file, where reading it fails.
        """

    def close(self) -> None:
        """End the threads or processes that read; nothing is read afterwards."""


@dataclass(frozen=True)
class WatchedReader:
    """A reader that is watched while it reads: training waits for it between its micro-batches."""

    reader: SplitReader
    watch: Callable[[Iterator[MicroBatch]], Iterator[MicroBatch]]  # yields what it is given

    @property
    def samples(self) -> int:
        """Return how many samples the split has."""
        return self.reader.samples

    def read(self, samples: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Iterator[MicroBatch]:
        """Yield the reader's micro-batches."""
        return self.watch(self.reader.read(samples, seed=seed, epoch=epoch))

    def close(self) -> None:
        """End the threads or processes that read."""
        self.reader.close()


def check_image_size(manifest: Manifest, image_size: int) -> None:
    """Raise ``ValueError`` where all images have one size, and it is not the network's."""
    stored_size = manifest.image["size"]
    if stored_size not in (None, image_size):
        raise ValueError(
            f"the network takes images of {image_size} px but those in {manifest.folder} have "
            f"{stored_size}: choose another preset or set hdkd.model.overrides.input_size"
        )


class AsTheyCome(Sequence[Item]):
    """The first items of an iterator, each taken when it is first asked for, and kept.

    A step's micro-batches come so: the network computes with the first while others are read.

    Args:
        items: has at least so many.
        length: of the sequence.
    """

    def __init__(self, items: Iterator[Item], length: int) -> None:
        self._items = items
        self._length = length
        self._taken: list[Item] = []

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        if isinstance(place, slice):
            return list(self)[place]
        place = range(self._length)[place]
        while len(self._taken) <= place:
            self._taken.append(next(self._items))
        return self._taken[place]


Step = Sequence[MicroBatch]  # this rank's micro-batches of a step, one per accumulation step


def examples_of(step: Step) -> Sequence[tuple[Tensor, Tensor]]:
    """Give what a loss needs of a step's micro-batches, as they come."""
    return AsTheyCome((micro.examples for micro in step), len(step))


def train_epoch(
    reader: SplitReader, share: BatchShare, *, seed: int, epoch: int, first_step: int = 0
) -> Iterator[Step]:
    """One epoch of training, step by step; of a step each micro-batch is read when asked for.

    Before ``first_step`` nothing is read.
    """
    order = after(train_order(seed, epoch, reader.samples, share), first_step, share)
    if not len(order):
        return iter(())
    batches = reader.read(order, seed=2 * seed + TRAIN, epoch=epoch)
    return in_steps(batches, share.accumulation)


def metaval_stream(
    reader: SplitReader, share: BatchShare, *, seed: int, first_step: int = 0
) -> Iterator[Step]:
    """Read the endless meta-validation stream, step by step like :func:`train_epoch`."""
    first_round, first_step = divmod(first_step, metaval_steps(reader.samples, share.batch))
    for round_ in itertools.count(first_round):
        order = after(metaval_order(seed, round_, reader.samples, share), first_step, share)
        first_step = 0
        batches = reader.read(order, seed=2 * seed + METAVAL, epoch=round_)
        yield from in_steps(batches, share.accumulation)


def after(order: np.ndarray, steps: int, share: BatchShare) -> np.ndarray:
    """Give a rank's order of samples without its first ``steps`` steps."""
    return order[steps * share.accumulation * share.micro_batch :]


def evaluation_pass(reader: SplitReader, rank: int, world_size: int) -> Iterator[MicroBatch]:
    """Read this rank's part of a split; over all ranks each sample comes exactly once."""
    return reader.read(evaluation_order(reader.samples, rank, world_size))


def in_steps(batches: Iterator[MicroBatch], accumulation: int) -> Iterator[Step]:
    """Group micro-batches into steps of ``accumulation``; ends when they do.

    The first is read when the step is asked for, the others as they are; what a step has left over
    is read before the next one.
    """
    for first in batches:
        step = AsTheyCome(itertools.chain([first], batches), accumulation)
        yield step
        list(step)
