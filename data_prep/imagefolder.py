"""Prepare ImageNet(X), Imagenette, Tiny-ImageNet or another data set of images in class folders.

python data_prep/imagefolder.py --source imagenet --out data/imagenet-500 --per_class 500
"""

from __future__ import annotations

import sys
from pathlib import Path

from hdkd_dist import cli
from hdkd_dist.data.preparing.beton import FieldOptions
from hdkd_dist.data.preparing.image_sources import open_source
from hdkd_dist.data.preparing.imagefolder import FileSamples, draw_usable, find_faulty, read_layout
from hdkd_dist.data.preparing.workers import available_cores
from hdkd_dist.data.preparing.write import check_whole, find_finished, summary, write_data_set
from hdkd_dist.data.staging import exit_on_signals

# Per channel, of ImageNet's training set.
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


def prepare(
    source: str,
    out: str,
    per_class: int | None = None,
    metaval_per_class: int = 50,
    seed: int = 0,
    workers: int | None = None,
    write_mode: str = "jpg",
    max_side: int = 500,
    quality: int = 90,
    proportion: float = 0.5,
) -> None:
    """Write a data set of images in class folders to a folder.

    The source holds train/<class>/<image> and val/<class>/<image>, or Tiny-ImageNet's layout. Its
    val part becomes the test split; the train part is split into train and metaval. Corrupt images
    are left out, listed, and replaced by the next ones of their class where X allows it.

    Args:
        source: a folder or an uncompressed tar.
        out: folder of the data set; appears complete or not at all.
        per_class: X, images per class including those for meta-validation; default all.
        metaval_per_class: images per class for meta-validation.
        seed: of the drawing.
        workers: processes that decode and encode; default all cores.
        write_mode: jpg, raw, or proportion (a part as JPEG, the rest raw: larger, faster to read).
        max_side: larger images are shrunk to this longer side in pixels; 0 keeps all sizes.
        quality: of the JPEGs, 1 to 100.
        proportion: part of the images stored as JPEG under write_mode proportion.
    """
    workers = available_cores() if workers is None else check_whole("workers", workers, 1)
    options = FieldOptions(
        write_mode=write_mode,
        max_side=check_whole("max_side", max_side, 0) or None,
        quality=check_whole("quality", quality, 1),
        proportion=proportion,
    )
    opened = open_source(str(source))
    folder = read_layout(opened)
    job = {
        "data": "imagefolder",
        "per_class": per_class,
        "metaval_per_class": metaval_per_class,
        "seed": seed,
        "write_mode": write_mode,
        "max_side": max_side,
        "quality": quality,
        "proportion": proportion,
        "source": folder.identity,
    }
    out_folder = Path(str(out)).absolute()
    if finished := find_finished(out_folder, job):  # before the long check of all images
        print(f"{out_folder} is already prepared as asked: nothing to do")
        print(summary(finished))
        return
    train, metaval, faulty = draw_usable(
        opened, folder, per_class, metaval_per_class, seed, options.max_side, workers
    )
    every = range(len(folder.val.files))
    faulty_val = find_faulty(opened, folder.val.files, every, options.max_side, workers)
    faults = {folder.train.files[position].name: fault for position, fault in faulty.items()}
    faults |= {folder.val.files[position].name: fault for position, fault in faulty_val.items()}
    manifest = write_data_set(
        out_folder,
        job,
        splits={
            "train": FileSamples(opened, folder.train, train),
            "metaval": FileSamples(opened, folder.train, metaval),
            "test": FileSamples(
                opened, folder.val, [position for position in every if position not in faulty_val]
            ),
        },
        name=out_folder.name,
        classes=folder.classes,
        image={"size": None, "mean": MEAN, "std": STD},
        augmentation={"flip": True, "resized_crop": True},
        options=options,
        workers=workers,
        skipped=sorted(faults),
    )
    print(summary(manifest))
    if faults:
        print(f"{len(faults)} files could not be used and were left out:", file=sys.stderr)
        for name, fault in sorted(faults.items()):
            print(f"  {name}: {fault}", file=sys.stderr)


if __name__ == "__main__":
    exit_on_signals()
    cli.run(prepare)
