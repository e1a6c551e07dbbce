"""A prepared data set as a network is evaluated on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hdkd_dist.data.manifest import ImageFormat, Manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.streams import Reading, SplitReader, evaluation_pass
from hdkd_dist.data.workers import progress_bar
from hdkd_dist.inference.outputs import Outputs, collect_outputs
from hdkd_dist.models import MultiExitNetwork


@dataclass(frozen=True)
class Source:
    """A prepared data set as one network reads it.

    Attributes:
        manifest: of the data set.
        trained: the image format, mean and standard deviation that the network was trained with.
        image_size: pixels per side.
        batch: images at a time.
        reading: where to, and with how many threads.
    """

    manifest: Manifest
    trained: ImageFormat
    image_size: int
    batch: int
    reading: Reading

    _readers: dict[str, SplitReader] = field(default_factory=dict)

    def reader(self, split: str) -> SplitReader:
        """One split, without augmentation.

        Readers stay: numba prints a traceback where one is let go of while another compiles.
        """
        if split not in self._readers:
            self._readers[split] = SplitReader(
                self.manifest,
                split,
                image_size=self.image_size,
                batch=self.batch,
                reading=self.reading,
                augment=False,
            )
        return self._readers[split]

    def outputs(self, network: MultiExitNetwork, split: str) -> Outputs:
        """Every exit's logits on every image of a split, once each."""
        reader = self.reader(split)
        normalize = Normalize.of(self.trained["mean"], self.trained["std"], self.reading.device)
        with progress_bar(reader.samples, f"evaluating {split}") as progress:

            def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
                for part in evaluation_pass(reader, rank=0, world_size=1):
                    yield part.images, part.labels, part.indices
                    progress.update(len(part.labels))

            return collect_outputs(lambda images: network(normalize(images)), batches())

    def images(self, split: str, positions: Sequence[int]) -> Tensor:
        """Some images of a split, [B, 3, H, W] uint8 on the CPU, in the order of ``positions``."""
        parts = self.reader(split).read(torch.tensor(positions).numpy())
        return torch.cat([part.images.cpu() for part in parts])
