"""Prepare images and labels that are held as arrays in one .npz file.

python data_prep/arrays.py --source bloodmnist.npz --out data/bloodmnist
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hdkd_dist import cli
from hdkd_dist.data.staging import exit_on_signals


def prepare(
    source: Path,
    out: Path,
    per_class: int | None = None,
    metaval_per_class: int = 50,
    test_per_class: int | None = None,
    seed: int = 0,
    classes: Sequence[str] = (),
    flip: bool = True,
    translate: int | None = None,
    workers: int = 1,
) -> None:
    """Write the data set to a folder; mean and deviation are computed from its training split.

    The file holds x_train, y_train, x_test, y_test (or train_images, train_labels, …; or images,
    labels): images [N,S,S] or [N,S,S,3] uint8, labels [N] whole numbers from 0 on.

    Args:
        source: the .npz file.
        out: folder of the data set; appears complete or not at all.
        per_class: images per class including those for meta-validation; default all.
        metaval_per_class: images per class for meta-validation; 0 for methods that learn no γ.
        test_per_class: images per class that are drawn as test split, where the file has none.
        seed: of the drawing of train and metaval.
        classes: their names, in the order of the labels; default their numbers.
        flip: mirror images in training (not where sides matter, as in text).
        translate: move images in training by up to as many pixels; default an eighth of their side.
        workers: processes; one is enough for small images.
    """
    from hdkd_dist.data.preparing.arrays import prepare_arrays
    from hdkd_dist.data.preparing.write import say

    say(
        prepare_arrays(
            source,
            out,
            per_class,
            metaval_per_class,
            test_per_class,
            seed,
            [name for word in classes for name in word.split(",")],
            flip,
            translate,
            workers,
        )
    )


if __name__ == "__main__":
    exit_on_signals()
    cli.run(prepare)
