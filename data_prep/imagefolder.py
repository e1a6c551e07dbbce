"""Prepare a data set of image files by class: ImageNet(X), Imagenette, Tiny-ImageNet, your own.

python data_prep/imagefolder.py --source imagenet --out data/imagenet-500 --per_class 500
"""

from __future__ import annotations

import sys
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
    val_dir: str | None = None,
    val_labels: str | None = None,
    recipe: str = "crop",
    normalise: str = "imagenet",
    write_mode: str = "jpg",
    max_side: int = 500,
    quality: int = 90,
    keep_jpegs: bool = True,
    proportion: float = 0.5,
    workers: int | None = None,
) -> None:
    """Write a data set of images by class to a folder.

    The source is a folder or an uncompressed tar; it holds train/<class>/<image> and val/ (valid/,
    test/) alike, or class folders alone; or it is ImageNet as it is downloaded (the archives beside
    each other, or Kaggle's). The held-out part becomes the test split; the train part is split into
    train and metaval. Corrupt images are left out, listed, and replaced by the next ones of their
    class where X allows it. docs/data.md has the layouts.

    Args:
        source: a folder or an uncompressed tar.
        out: folder of the data set; appears complete or not at all.
        per_class: X, images per class including those for meta-validation; default all.
        metaval_per_class: images per class for meta-validation; 0 for methods that learn no γ.
        test_per_class: images per class that are drawn as test split, where there is no other.
        seed: of the drawing of train and metaval.
        val_dir: the held-out part, a folder in the source or elsewhere; default val, valid or test.
        val_labels: a list of its labels, where it has no class folders; default a known one.
        recipe: crop (random crops of random sizes, as for ImageNet), or shift (images of one size
            are moved by an eighth of it, as for CIFAR).
        normalise: imagenet (its mean and deviation), or own (those of the training split).
        write_mode: jpg, raw, or proportion (a part as JPEG, the rest raw: larger, faster to read).
        max_side: larger images are shrunk to this longer side in pixels; 0 keeps all sizes.
        quality: of the JPEGs that are written, 1 to 100.
        keep_jpegs: under jpg, store JPEGs that are small enough as they are.
        proportion: part of the images stored as JPEG under write_mode proportion.
        workers: processes that decode and encode; default all cores.
    """
    from hdkd_dist.data.preparing.beton import FieldOptions
    from hdkd_dist.data.preparing.class_layout import read_layout
    from hdkd_dist.data.preparing.image_recipes import NORMALISATIONS, RECIPES, choose
    from hdkd_dist.data.preparing.image_sources import open_source
    from hdkd_dist.data.preparing.imagefolder import FileSamples, Wanted, draw_usable
    from hdkd_dist.data.preparing.workers import available_cores, progress_bar
    from hdkd_dist.data.preparing.write import check_whole, find_finished, say, write_data_set

    workers = available_cores() if workers is None else check_whole("workers", workers, 1)
    options = FieldOptions(
        write_mode=write_mode,
        max_side=check_whole("max_side", max_side, 0) or None,
        quality=check_whole("quality", quality, 1),
        proportion=proportion,
        keep_jpegs=keep_jpegs,
    )
    recipe_of = choose("--recipe", recipe, RECIPES)
    normalisation_of = choose("--normalise", normalise, NORMALISATIONS)
    wanted = Wanted(per_class, metaval_per_class, test_per_class, seed)
    opened = open_source(source)
    with progress_bar(None, "listing", " files") as progress:
        folder = read_layout(
            opened, val_dir, val_labels, draw_test=test_per_class is not None, seen=progress.update
        )
    job = {
        "data": "imagefolder",
        "per_class": per_class,
        "metaval_per_class": metaval_per_class,
        "test_per_class": test_per_class,
        "seed": seed,
        "recipe": recipe,
        "normalise": normalise,
        "write_mode": write_mode,
        "max_side": max_side,
        "quality": quality,
        "keep_jpegs": options.keep_jpegs,
        "proportion": proportion,
        "source": folder.identity,
    }
    out_folder = out.absolute()
    if finished := find_finished(out_folder, job):  # before the long check of all images
        print(f"{out_folder} is already prepared as asked: nothing to do")
        say(finished)
        return
    drawn = draw_usable(folder, wanted, options.max_side, workers)
    splits = {
        "train": FileSamples(folder.train, drawn.train, options),
        "metaval": FileSamples(folder.train, drawn.metaval, options),
        "test": FileSamples(folder.test or folder.train, drawn.test, options),
    }
    size, augmentation = recipe_of(splits, workers)
    mean, std = normalisation_of(splits["train"], workers)
    manifest = write_data_set(
        out_folder,
        job,
        splits=splits,
        name=out_folder.name,
        classes=folder.classes,
        image={"size": size, "mean": mean, "std": std},
        augmentation=augmentation,
        options=options,
        workers=workers,
        skipped=list(drawn.faults),
    )
    say(manifest, folder.notes)
    if drawn.faults:
        print(f"{len(drawn.faults)} files could not be used and were left out:", file=sys.stderr)
        for name, fault in drawn.faults.items():
            print(f"  {name}: {fault}", file=sys.stderr)


if __name__ == "__main__":
    exit_on_signals()
    cli.run(prepare)
