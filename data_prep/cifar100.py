"""Prepare CIFAR(X): X images per class of CIFAR-100 for train and metaval, and the test set.

    python data_prep/cifar100.py --source cifar-100-python.tar.gz --out data/cifar100-500 \\
        --per_class 500
"""

from __future__ import annotations

from hdkd_dist import cli
from hdkd_dist.data.preparing.beton import ArraySamples, FieldOptions
from hdkd_dist.data.preparing.cifar100 import MEAN, SIDE, STD, read_cifar100
from hdkd_dist.data.preparing.write import check_whole, draw_splits, summary, write_data_set
from hdkd_dist.data.staging import exit_on_signals


def prepare(
    source: str,
    out: str,
    per_class: int | None = None,
    metaval_per_class: int = 50,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Write the data set CIFAR(X) to a folder.

    Args:
        source: the official archive cifar-100-python.tar.gz, or the folder it unpacks to.
        out: folder of the data set; appears complete or not at all.
        per_class: X, images per class including those for meta-validation; default all 500.
        metaval_per_class: images per class for meta-validation.
        seed: of the drawing.
        workers: processes; one is enough for images this small.
    """
    data = read_cifar100(str(source))
    train, metaval = draw_splits(
        data.train_labels, per_class, metaval_per_class, seed, data.classes
    )
    images, labels = data.train_images, data.train_labels
    manifest = write_data_set(
        str(out),
        job={
            "data": "cifar100",
            "per_class": per_class,
            "metaval_per_class": metaval_per_class,
            "seed": seed,
            "source_sha256": data.identity,
        },
        splits={
            "train": ArraySamples(images, labels, train),
            "metaval": ArraySamples(images, labels, metaval),
            "test": ArraySamples(data.test_images, data.test_labels, range(len(data.test_labels))),
        },
        name="cifar100",
        classes=data.classes,
        image={"size": SIDE, "mean": MEAN, "std": STD},
        augmentation={"flip": True, "translate": 4},
        options=FieldOptions(write_mode="raw"),
        workers=check_whole("workers", workers, 1),
    )
    print(summary(manifest))


if __name__ == "__main__":
    exit_on_signals()
    cli.run(prepare)
