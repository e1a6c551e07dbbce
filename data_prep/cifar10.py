"""Prepare CIFAR-10: X images per class of CIFAR-10 for train and metaval, and the test set.

    python data_prep/cifar10.py --source cifar-10-python.tar.gz --out data/cifar10-1000 \\
        --per_class 1000
"""

from __future__ import annotations

from pathlib import Path

from hdkd_dist import cli
from hdkd_dist.data.staging import exit_on_signals


def prepare(
    source: Path,
    out: Path,
    per_class: int | None = None,
    metaval_per_class: int = 500,
    seed: int = 0,
    workers: int = 1,
    extra: bool = False,
) -> None:
    """Write the data set to a folder.

    Args:
        source: the official archive cifar-10-python.tar.gz, or the folder it unpacks to.
        out: folder of the data set; appears complete or not at all.
        per_class: X, images per class including those for meta-validation; default all 5,000.
        metaval_per_class: images per class for meta-validation; 0 for methods that learn no γ.
        seed: of the drawing.
        workers: processes; one is enough for images this small.
        extra: write all other training images as a fourth split that is never
            trained on, which evaluate.py measures as a second test split.
    """
    from hdkd_dist.data.preparing.cifar import prepare_cifar
    from hdkd_dist.data.preparing.write import say

    say(prepare_cifar("cifar10", source, out, per_class, metaval_per_class, seed, workers, extra))


if __name__ == "__main__":
    exit_on_signals()
    cli.run(prepare)
