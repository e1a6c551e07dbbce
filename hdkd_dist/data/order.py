"""The order of samples belongs to the run, not to the machines.

Step s of an epoch trains on permutation[s·B : (s+1)·B]; micro-step a on rank r takes the (a·R+r)-th
slice of it. The run sees the same batches whatever the number of ranks R and of accumulation
steps A, as long as the global batch B is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdkd_dist.data.manifest import Manifest

# Which of a run's random sequences: the train and the meta-validation stream have their own.
TRAIN, METAVAL = 0, 1


@dataclass(frozen=True)
class BatchShare:
    """One rank's part of every global batch.

    Raises:
        ValueError: if ranks × accumulation steps do not divide the batch.
    """

    batch: int  # B, over all ranks and accumulation steps
    accumulation: int = 1  # A
    rank: int = 0
    world_size: int = 1  # R

    def __post_init__(self) -> None:
        if self.batch % (self.accumulation * self.world_size):
            raise ValueError(
                f"a batch of {self.batch} cannot be divided among {self.world_size} rank(s) with "
                f"{self.accumulation} accumulation step(s): make it a multiple of "
                f"{self.accumulation * self.world_size}"
            )

    @property
    def micro_batch(self) -> int:
        """Samples per rank and accumulation step."""
        return self.batch // (self.accumulation * self.world_size)

    def of(self, samples: np.ndarray) -> np.ndarray:
        """Pick this rank's samples of whole batches, in the order in which it reads them.

        Args:
            samples: [S·B], the global order of S steps.

        Returns:
            [S·A·micro_batch].
        """
        slices = samples.reshape(-1, self.accumulation, self.world_size, self.micro_batch)
        return slices[:, :, self.rank].reshape(-1)


def permutation(seed: int, stream: int, epoch: int, samples: int) -> np.ndarray:
    """Draw the order of a stream's ``epoch``-th pass over its samples, [samples]."""
    return np.random.default_rng([seed, stream, epoch]).permutation(samples)


def train_order(seed: int, epoch: int, samples: int, share: BatchShare) -> np.ndarray:
    """Order this rank's samples in one training epoch; the last partial batch is dropped."""
    whole = samples - samples % share.batch
    return share.of(permutation(seed, TRAIN, epoch, samples)[:whole])


def steps_per_epoch(manifest: Manifest, share: BatchShare) -> int:
    """Whole batches in the training split."""
    samples = manifest.splits["train"].samples
    if samples < share.batch:
        raise ValueError(
            f"{manifest.folder} has {samples} training images, fewer than one batch of "
            f"{share.batch}: lower train_batch_size"
        )
    return samples // share.batch


def metaval_steps(samples: int, batch: int) -> int:
    """Count the steps in one round of the meta-validation stream: a pass over the split, or one."""
    return max(1, samples // batch)


def metaval_order(seed: int, round_: int, samples: int, share: BatchShare) -> np.ndarray:
    """Order this rank's samples in one round of the meta-validation stream.

    The stream is the endless concatenation of fresh permutations, cut into batches: a round goes
    on where the last one ended, every sample is drawn equally often, and a batch may be larger
    than the split.
    """
    length = metaval_steps(samples, share.batch) * share.batch
    first_pass, start = divmod(round_ * length, samples)
    passes = -(-(start + length) // samples)
    endless = [permutation(seed, METAVAL, first_pass + p, samples) for p in range(passes)]
    return share.of(np.concatenate(endless)[start : start + length])


def evaluation_order(samples: int, rank: int, world_size: int) -> np.ndarray:
    """Order this rank's samples in an evaluation: over all ranks each sample exactly once."""
    return np.arange(rank, samples, world_size)
