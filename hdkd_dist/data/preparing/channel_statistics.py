"""Mean and standard deviation of a data set's own pixels."""

from __future__ import annotations

import numpy as np

from hdkd_dist.data.preparing.beton import Samples
from hdkd_dist.data.preparing.workers import ordered_map, progress_bar

CHUNK = 64  # images per job
DIGITS = 4  # that are kept


def channel_statistics(samples: Samples, workers: int = 1) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, in 0..1, each image counting alike.

    The deviation is that of all pixels from the common mean: √(E[x²] − E[x]²).

    Args:
        samples: whose images are arrays [H,W,3] uint8 or PIL images in RGB.
        workers: processes that decode; the result does not depend on it.

    Raises:
        ValueError: all images are of one colour.
    """

    def moments(positions: range) -> np.ndarray:
        """[2, 3]: sums over images of the mean of x and of x²."""
        sums = np.zeros((2, 3))
        for position in positions:
            pixels = np.asarray(samples[position][0], np.float64).reshape(-1, 3) / 255
            sums += [pixels.mean(axis=0), np.square(pixels).mean(axis=0)]
        return sums

    number = len(samples)
    chunks = [range(i, min(i + CHUNK, number)) for i in range(0, number, CHUNK)]
    total = np.zeros((2, 3))
    with progress_bar(number, "mean and deviation") as progress:
        for chunk, sums in zip(chunks, ordered_map(moments, chunks, workers), strict=True):
            total += sums
            progress.update(len(chunk))
    mean, square = total / number
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    if not np.round(deviation, DIGITS).all():
        raise ValueError("a channel has the same value in all images: it cannot be normalised")
    return np.round(mean, DIGITS).tolist(), np.round(deviation, DIGITS).tolist()
