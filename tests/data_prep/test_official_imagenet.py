"""ImageNet as people have it: archives, development kit and lists of the official form, but small.

Each way of having it must give the splits of the plain folders, byte for byte.
"""

import io
import json
import tarfile

import numpy as np
import pytest
from entry_points import call, write_config
from image_files import CLASSES, FLAGS, make_tar, prepare, save
from PIL import Image
from scipy.io import savemat

from hdkd_dist.data.manifest import read_manifest

KIT = "ILSVRC2012_devkit_t12"
NUMBERS = {"n03": 1, "n01": 2, "n02": 3}  # ILSVRC2012_ID: not the order of names


@pytest.fixture
def plain(tmp_path, source):
    """Folders by class, validation images named as ImageNet's."""
    number = 0
    for i in range(2):
        for name in ("n02", "n03", "n01"):
            number += 1
            old = source / "val" / name / f"{name}_val_{i}.JPEG"
            old.rename(old.with_name(f"ILSVRC2012_val_{number:08}.JPEG"))
    return source


@pytest.fixture
def expected(tmp_path, plain, run_script):
    return prepare(run_script, plain, tmp_path / "expected")[0]


def validation_labels(plain):
    return {
        path.name: path.parts[-2] for path in sorted(plain.glob("val/*/*"), key=lambda p: p.name)
    }


def flat_validation(plain, folder):
    folder.mkdir(parents=True)
    for path in plain.glob("val/*/*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def train_tar(plain, path):
    """A tar of one tar per class, whose images lie at its top."""
    with tarfile.open(path, "w") as outer:
        for name in CLASSES:
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as inner:
                for image in sorted((plain / "train" / name).iterdir()):
                    inner.add(image, arcname=image.name)
            entry = tarfile.TarInfo(f"{name}.tar")
            entry.size = len(buffer.getvalue())
            outer.addfile(entry, io.BytesIO(buffer.getvalue()))
    return path


def val_tar(plain, path):
    with tarfile.open(path, "w") as tar:
        for image in sorted(plain.glob("val/*/*"), key=lambda image: image.name):
            tar.add(image, arcname=image.name)
    return path


def development_kit(plain, folder):
    """The kit's two files; the real meta.mat also has the inner nodes of WordNet, numbered on."""
    data = folder / KIT / "data"
    data.mkdir(parents=True)
    rows = [*NUMBERS.items(), ("n09", 4)]
    synsets = np.array(
        [(number, wnid, "words, more words") for wnid, number in rows],
        dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")],
    )
    savemat(data / "meta.mat", {"synsets": synsets[:, None]})
    truth = "".join(f"{NUMBERS[wnid]}\n" for wnid in validation_labels(plain).values())
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)
    (folder / KIT / "readme.txt").write_text("read me")
    return folder / KIT


@pytest.fixture
def downloads(tmp_path, plain):
    """The three files of the official page in one folder."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    train_tar(plain, folder / "ILSVRC2012_img_train.tar")
    val_tar(plain, folder / "ILSVRC2012_img_val.tar")
    kit = development_kit(plain, tmp_path / "kit")
    make_tar(kit, folder / f"{KIT}.tar.gz", "w:gz", arcname=KIT)
    return folder


def test_the_archives_as_they_are_downloaded(tmp_path, downloads, expected, run_script):
    found, out, err = prepare(run_script, downloads, tmp_path / "out")
    assert found.splits == expected.splits
    assert found.classes == CLASSES
    assert found.job == expected.job
    _, out, _ = prepare(run_script, downloads, tmp_path / "expected")
    assert "already prepared" in out
    assert "left out" not in err


def test_unpacked_in_part(tmp_path, plain, downloads, expected, run_script):
    """The outer tars and the kit unpacked, the classes' tars not."""
    for name in ("train", "val"):
        packed = downloads / f"ILSVRC2012_img_{name}.tar"
        with tarfile.open(packed) as tar:
            tar.extractall(downloads / name)  # our own archive
        packed.unlink()
    with tarfile.open(downloads / f"{KIT}.tar.gz") as tar:
        tar.extractall(downloads)  # our own archive
    (downloads / f"{KIT}.tar.gz").unlink()
    found, _, _ = prepare(run_script, downloads, tmp_path / "out")
    assert found.splits == expected.splits


def test_unpacked_beside_the_archives(tmp_path, plain, downloads, expected, run_script):
    (downloads / "train").mkdir()
    with tarfile.open(downloads / "ILSVRC2012_img_train.tar") as tar:
        tar.extractall(downloads / "train")  # our own archive
    for name in CLASSES:  # each class's tar still lies there
        with tarfile.open(downloads / "train" / f"{name}.tar") as tar:
            tar.extractall(downloads / "train" / name)  # our own archive
    found, _, _ = prepare(run_script, downloads, tmp_path / "out")
    assert found.splits == expected.splits


def test_the_archives_named_one_by_one(tmp_path, downloads, plain, expected, run_script):
    kit = development_kit(plain, tmp_path / "unpacked")
    labels = tmp_path / "synsets.txt"
    labels.write_text("\n".join(validation_labels(plain).values()))
    flags = ("--val_dir", downloads / "ILSVRC2012_img_val.tar", "--val_labels", labels)
    train = downloads / "ILSVRC2012_img_train.tar"
    found, _, _ = prepare(run_script, train, tmp_path / "out", *flags)
    assert found.splits == expected.splits
    assert kit.exists()


def kaggles(plain):
    rows = [f"{name[:-5]},{label} 85 1 499 272 {label} 1 2 3 4 \n"
            for name, label in validation_labels(plain).items()]  # fmt: skip
    return "ImageId,PredictionString\n" + "".join(reversed(rows))


def tensorflows(plain):
    return "".join(f"{label}\n" for label in validation_labels(plain).values())


def pytorchs(plain):
    labels = validation_labels(plain)
    made = "".join(f"mkdir -p {label}\n" for label in CLASSES)
    return made + "".join(f"mv {name} {label}/\n" for name, label in labels.items())


def caffes(plain):
    labels = validation_labels(plain)
    return "".join(f"{name} {CLASSES.index(label)}\n" for name, label in labels.items())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("LOC_val_solution.csv", kaggles),
        ("imagenet_2012_validation_synset_labels.txt", tensorflows),
        ("valprep.sh", pytorchs),
        ("val.txt", caffes),
    ],
)
def test_the_lists_that_the_field_has(tmp_path, plain, expected, run_script, name, content):
    root = tmp_path / "root"
    root.mkdir()
    (plain / "train").rename(root / "train")
    flat_validation(plain, root / "val")
    text = content(plain)
    (root / name).write_text(text)
    found, _, _ = prepare(run_script, root, tmp_path / "out")
    assert found.splits == expected.splits
    (root / name).rename(tmp_path / "labels")
    flags = ("--val_labels", tmp_path / "labels")
    found, _, _ = prepare(run_script, root, tmp_path / "given", *flags)
    assert found.splits == expected.splits


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_kaggles_download(tmp_path, plain, expected, run_script, form):
    root = tmp_path / "imagenet-object-localization-challenge"
    inner = root / "ILSVRC/Data/CLS-LOC"
    inner.mkdir(parents=True)
    text = kaggles(plain)
    flat_validation(plain, inner / "val")
    (plain / "train").rename(inner / "train")
    save(inner / "test/ILSVRC2012_test_00000001.JPEG", Image.new("RGB", (40, 30)))
    for name in (
        "Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml",
        "ImageSets/CLS-LOC/val.txt",
    ):
        file = root / "ILSVRC" / name
        file.parent.mkdir(parents=True)
        file.write_text("ILSVRC2012_val_00000001 1\n")
    (root / "LOC_val_solution.csv").write_text(text)
    (root / "LOC_synset_mapping.txt").write_text("n01 a thing\n")
    given = root if form == "folder" else make_tar(root, tmp_path / "kaggle.tar", arcname="kaggle")
    found, _, _ = prepare(run_script, given, tmp_path / "out")
    assert found.splits == expected.splits
    assert found.classes == CLASSES


def spoil_no_labels(downloads, _):
    (downloads / f"{KIT}.tar.gz").unlink()


def spoil_truncated_kit(downloads, _):
    file = downloads / f"{KIT}.tar.gz"
    file.write_bytes(file.read_bytes()[:-200])


def spoil_truth(downloads, plain):
    (downloads / f"{KIT}.tar.gz").unlink()
    kit = development_kit(plain, downloads)
    (kit / "data/ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n")


def spoil_number(downloads, plain):
    (downloads / f"{KIT}.tar.gz").unlink()
    kit = development_kit(plain, downloads)
    (kit / "data/ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n77\n")


def spoil_meta(downloads, plain):
    (downloads / f"{KIT}.tar.gz").unlink()
    kit = development_kit(plain, downloads)
    (kit / "data/meta.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))


def spoil_class_list(downloads, _):
    (downloads / "val.txt").write_text(
        "".join(f"ILSVRC2012_val_{n:08}.JPEG n77\n" for n in range(1, 7))
    )


def spoil_numbers_from_one(downloads, _):
    (downloads / "val.txt").write_text(
        "".join(f"ILSVRC2012_val_{n:08}.JPEG {1 + n % 2}\n" for n in range(1, 7))
    )


def spoil_inner_tar(downloads, _):
    file = downloads / "ILSVRC2012_img_train.tar"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_no_labels, "there is no list of labels: known are val_annotations.txt, LOC_val"),
        (spoil_truncated_kit, f"cannot read {KIT}.tar.gz, truncated"),
        (spoil_truth, "lists 2 images, but there are 6"),
        (spoil_number, "'77' is no number of a class"),
        (spoil_meta, "cannot read data/meta.mat"),
        (spoil_class_list, "val.txt has the class 'n77', which is none of the 3"),
        (spoil_numbers_from_one, "val.txt numbers the classes from 1, not from 0"),
        (spoil_inner_tar, "truncated"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, plain, downloads, refuse, spoil, message):
    spoil(downloads, plain)
    arguments = ["imagefolder", "--source", downloads, "--out", tmp_path / "out", *FLAGS]
    assert message in refuse(*arguments)


def test_a_tar_of_tars_is_read_by_offset_with_any_workers(
    tmp_path, downloads, expected, run_script
):
    prepare(run_script, downloads, tmp_path / "out", "--workers", "2")
    assert read_manifest(tmp_path / "out").splits == expected.splits


def test_a_step_of_training_on_them(tmp_path, downloads, run_script):
    prepare(run_script, downloads, tmp_path / "prepared")
    config = write_config(tmp_path, train_batch_size=12)
    words = ["--ds_config", config, "--data", tmp_path / "prepared", "--epochs", "1"]
    words += ["--set", "hdkd.data.reader=ffcv"]  # crops of images of many sizes
    done = call("hdkd_dist/train.py", *words, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["train"]["steps"] == 1
    assert [row["exit"] for row in results["exits"]] == [1, 2, 3]
