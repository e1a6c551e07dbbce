"""A prepared data set as a network is evaluated on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hdkd_dist.data.manifest import Manifest
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.streams import Reading, SplitReader, evaluation_pass
from hdkd_dist.data.workers import progress_bar
from hdkd_dist.inference.outputs import Outputs, collect_outputs
from hdkd_dist.models import MultiExitNetwork


@dataclass(frozen=True)
class Source:
    """A prepared data set as one network reads it."""

    manifest: Manifest
    image_size: int
    batch: int
    reading: Reading

    def reader(self, split: str) -> SplitReader:
        """One split, without augmentation."""
        return SplitReader(
            self.manifest,
            split,
            image_size=self.image_size,
            batch=self.batch,
            reading=self.reading,
            augment=False,
        )

    def outputs(self, network: MultiExitNetwork, split: str) -> Outputs:
        """Every exit's logits on every image of a split, once each."""
        reader = self.reader(split)
        image = self.manifest.image
        normalize = Normalize.of(image["mean"], image["std"], self.reading.device)
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
