"""Prepare CIFAR(X): X images per class of CIFAR-100 for train and metaval, and the test set.

    python data_prep/cifar100.py --source cifar-100-python.tar.gz --out data/cifar100-150 \\
        --per_class 150
"""

from __future__ import annotations

from pathlib import Path

from hdkd_dist import cli
from hdkd_dist.data.staging import exit_on_signals


def prepare(
    source: Path,
    out: Path,
    per_class: int | None = None,
    metaval_per_class: int = 50,
    seed: int = 0,
    workers: int = 1,
    extra: bool = False,
) -> None:
    """Write the data set to a folder.

    Args:
        source: the official archive cifar-100-python.tar.gz, or the folder it unpacks to.
        out: folder of the data set; appears complete or not at all.
        per_class: X, images per class including those for meta-validation; default all 500.
        metaval_per_class: images per class for meta-validation; 0 for methods that learn no γ.
        seed: of the drawing.
        workers: processes; one is enough for images this small.
        extra: write all other training images as a fourth split that is never
            trained on, which evaluate.py measures as a second test split.
    """
    from hdkd_dist.data.preparing.cifar import prepare_cifar
    from hdkd_dist.data.preparing.write import say

    say(prepare_cifar("cifar100", source, out, per_class, metaval_per_class, seed, workers, extra))


if __name__ == "__main__":
    exit_on_signals()
    cli.run(prepare)
