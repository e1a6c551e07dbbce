"""How people's folders lie, and what is said where they cannot be understood."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from entry_points import ROOT
from image_files import CLASSES, FLAGS, make_tar, picture, prepare, save
from PIL import Image

from hdkd_dist.data.manifest import read_manifest

TEST = ("--test_per_class", "2")


@pytest.fixture
def expected(tmp_path, source, run_script):
    return prepare(run_script, source, tmp_path / "expected")[0]


@pytest.mark.parametrize("name", ["valid", "validation", "test"])
def test_other_names_of_the_held_out_part(tmp_path, source, expected, run_script, name):
    (source / "val").rename(source / name)
    found, _, _ = prepare(run_script, source, tmp_path / "out")
    assert found.splits == expected.splits
    assert found.job == expected.job


def test_of_two_held_out_parts_one_is_taken_and_the_other_named(
    tmp_path, source, expected, run_script
):
    shutil.copytree(source / "val", source / "test")
    for path in source.glob("test/*/*_1.JPEG"):
        path.unlink()
    found, _, err = prepare(run_script, source, tmp_path / "out")
    assert found.splits == expected.splits
    assert "val/ becomes the test split; test/ is not used (--val_dir test" in err
    found, _, err = prepare(run_script, source, tmp_path / "test", "--val_dir", "test")
    assert found.splits["test"].per_class == (1, 1, 1)
    assert "note: test" not in err


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_held_out_part_that_lies_elsewhere(tmp_path, source, expected, run_script, form):
    elsewhere = tmp_path / "elsewhere"
    (source / "val").rename(elsewhere)
    given = elsewhere if form == "folder" else make_tar(elsewhere, tmp_path / "val.tar")
    found, _, _ = prepare(run_script, source, tmp_path / "out", "--val_dir", given)
    assert found.splits == expected.splits
    flat, _, _ = prepare(run_script, source / "train", tmp_path / "flat", "--val_dir", given)
    assert flat.splits == expected.splits


@pytest.mark.parametrize("layout", ["train only", "flat", "flat with a folder around"])
def test_a_test_split_is_drawn_on_request(tmp_path, source, run_script, raw_samples, layout):
    shutil.rmtree(source / "val")
    given = source if layout == "train only" else source / "train"
    if layout == "flat with a folder around":
        (tmp_path / "around").mkdir()
        (source / "train").rename(tmp_path / "around/animals")
        given = tmp_path / "around"
    flags = (*TEST, "--write_mode", "raw")
    found, _, _ = prepare(run_script, given, tmp_path / "out", *flags)
    assert found.classes == CLASSES
    counts = {name: split.per_class for name, split in found.splits.items()}
    assert counts == {"train": (4,) * 3, "metaval": (2,) * 3, "test": (2,) * 3}
    images = [image.tobytes() for s in found.splits for image in raw_samples(found.path(s))[0]]
    assert len(set(images)) == 24  # none is in two splits
    other, _, _ = prepare(run_script, given, tmp_path / "seed", *flags, "--seed", "1")
    assert other.splits["test"] == found.splits["test"]  # as an official one stays the same
    assert other.splits["train"] != found.splits["train"]


def test_a_corrupt_image_of_a_drawn_test_split_is_replaced(tmp_path, source, run_script):
    shutil.rmtree(source / "val")
    for path in source.glob("train/n02/*_[0-2].JPEG"):
        path.write_bytes(b"<html>")
    flags = ("--test_per_class", "1", "--per_class", "5")
    found, _, _ = prepare(run_script, source, tmp_path / "out", *flags)
    assert found.splits["test"].per_class == (1, 1, 1)
    assert found.splits["train"].per_class == (3, 3, 3)
    assert set(found.skipped) == {f"train/n02/n02_train_{i}.JPEG" for i in range(3)}


def test_there_is_one_test_split(tmp_path, source, refuse):
    arguments = ["imagefolder", "--source", source, "--out", tmp_path / "out", *FLAGS, *TEST]
    message = refuse(*arguments, "--val_dir", "val")
    assert "give --test_per_class or --val_dir, not both" in message


def into(folder, name):
    """Put what is in a folder into one more folder."""
    folder.rename(folder.with_name("moved"))
    folder.mkdir()
    folder.with_name("moved").rename(folder / name)


@pytest.mark.parametrize("parts", [("train",), ("train", "val")])
def test_a_folder_too_many_around_the_classes_is_seen(
    tmp_path, source, expected, run_script, parts
):
    for part in parts:
        into(source / part, "animal")
    found, _, err = prepare(run_script, source, tmp_path / "out")
    assert found.splits == expected.splits
    for part in parts:
        assert f"note: the 3 folders in {part}/animal are the classes" in err


def test_folders_within_classes_are_named(tmp_path, source, run_script):
    for name in ("n04", "n05"):
        for part in ("train", "val"):
            for kind in ("young", "old"):
                for i in range(6):
                    save(source / part / name / kind / f"{i}.png", picture(i), "PNG")
    found, _, err = prepare(run_script, source, tmp_path / "out")
    assert found.classes == (*CLASSES, "n04", "n05")
    assert "train/n04 is one class, though there are folders in it (old, young; the same" in err


def test_one_class_is_refused(tmp_path, source, refuse):
    for name in ("n02", "n03"):
        shutil.rmtree(source / "train" / name)
        shutil.rmtree(source / "val" / name)
    message = refuse("imagefolder", "--source", source, "--out", tmp_path / "out", *FLAGS)
    assert "there is one class only, 'n01' in train" in message


@pytest.mark.parametrize(
    ("names", "flags", "message"),
    [
        (["val"], [], "no train/ with folders by class, and these are no classes either: val/"),
        (["train"], [], "no held-out part to become the test split (val/, valid/ or test/)"),
        (["train"], ["--val_dir", "nowhere"], "--val_dir nowhere does not exist"),
        (["train", "val"], ["--val_labels", "nowhere"], "--val_labels nowhere does not exist"),
        ([], [], "these are no classes either: notes.txt"),
    ],
)
def test_what_is_there_is_named(tmp_path, source, refuse, names, flags, message):
    for name in {"train", "val"} - set(names):
        shutil.rmtree(source / name)
    (source / "notes.txt").write_text("to do")
    arguments = ["imagefolder", "--source", source, "--out", tmp_path / "out", *FLAGS, *flags]
    assert message in refuse(*arguments)


def test_images_are_known_by_content_where_the_suffix_says_nothing(
    tmp_path, source, expected, run_script
):
    folder = source / "train/n01"
    forms = {"a.jfif": "JPEG", "b": "JPEG", "c.dat": "PNG", "d.avif": "AVIF", "e.jp2": "JPEG2000",
             "f.tga": "TGA", "g.heic": "WEBP", "h.img": "TIFF", "i.large": "BMP"}  # fmt: skip
    for path in folder.iterdir():
        path.unlink()
    for number, (name, form) in enumerate(forms.items()):
        save(folder / name, picture(number), form)
    (folder / "notes.txt").write_text("no image")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" * 9)
    (folder / "empty").write_bytes(b"")
    found, _, err = prepare(run_script, source, tmp_path / "out", "--per_class", "9")
    assert found.splits["train"].per_class[0] + found.splits["metaval"].per_class[0] == 9
    assert "3 files are no images and were left out: 1 .db, 1 without a suffix, 1 .txt" in err
    assert "train/n01/notes.txt" in err
    assert found.skipped == ()


def test_hidden_files_and_those_of_macos_are_not_seen(tmp_path, source, expected, run_script):
    save(source / "__MACOSX/train/n01/._x.jpg", picture(1))
    save(source / "train/__MACOSX/x.jpg", picture(1))
    save(source / "train/n01/__MACOSX/x.jpg", picture(1))
    save(source / "train/.ipynb_checkpoints/x.jpg", picture(1))
    for given in (source, make_tar(source, tmp_path / "source.tar")):
        found, _, err = prepare(run_script, given, tmp_path / f"out-{given.name}")
        assert found.splits == expected.splits
        assert "left out" not in err


def test_pipes_and_links_to_them_are_named_and_never_read(tmp_path, source):
    os.mkfifo(source / "train/n01/a_pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (source / "val/n02/linked.jpg").symlink_to(tmp_path / "pipe")
    (source / "val/n03/device.jpg").symlink_to("/dev/zero")
    script = [sys.executable, ROOT / "data_prep/imagefolder.py", "--metaval_per_class", "2"]
    words = ["--source", source, "--out", tmp_path / "out", "--per_class", "9", "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*script, *words], env=environment, check=True, timeout=120)
    skipped = read_manifest(tmp_path / "out").skipped
    assert {"val/n02/linked.jpg", "val/n03/device.jpg"} <= set(skipped)
    assert set(skipped) <= {"train/n01/a_pipe.jpg", "val/n02/linked.jpg", "val/n03/device.jpg"}


def test_images_with_unknown_range_or_other_programs_are_skipped_by_name(
    tmp_path, source, run_script
):
    values = np.random.default_rng(0).random((30, 40), np.float32)
    save(source / "val/n01/float.tif", Image.fromarray(values), "TIFF")
    (source / "val/n01/program.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )
    found, _, err = prepare(run_script, source, tmp_path / "out")
    assert found.skipped == ("val/n01/float.tif", "val/n01/program.jpg")
    assert "val/n01/float.tif: its pixels are floating-point numbers of unknown range" in err
    assert "val/n01/program.jpg: it is no image in a format that is read" in err


def test_pictures_of_a_turned_camera_are_stored_upright(tmp_path, source, run_script, raw_samples):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = picture(5)
    upright.save(source / "val/n01/a.png", exif=exif)
    found, _, _ = prepare(run_script, source, tmp_path / "out", "--write_mode", "raw")
    images, _ = raw_samples(found.path("test"))
    turned = np.asarray(upright.transpose(Image.Transpose.ROTATE_270))
    assert sum(np.array_equal(image, turned) for image in images) == 1
