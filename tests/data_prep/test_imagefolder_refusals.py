import os
import tarfile

import pytest
from image_files import FLAGS, make_tar, picture, save


def spoil_no_val(source):
    for path in source.glob("val/*/*"):
        path.unlink()


def spoil_empty_class(source):
    (source / "train" / "n07").mkdir()


def spoil_class_only_in_val(source):
    save(source / "val" / "n07" / "x.jpg", picture(1))


def spoil_class_without_val(source):
    save(source / "train" / "n07" / "x.jpg", picture(1))


def spoil_flat_val(source):
    save(source / "val" / "ILSVRC2012_val_00000001.JPEG", picture(1))


def spoil_annotation(source):
    (source / "val" / "val_annotations.txt").write_text("n01_val_0.JPEG\tn01\n")


def spoil_train(source):
    (source / "train").rename(source / "learning")


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_no_val, "there are no images in val"),
        (spoil_empty_class, "class 'n07' has no images in train "),
        (spoil_class_only_in_val, "class 'n07' is in val but not in the training part"),
        (spoil_class_without_val, "class 'n07' has no images in val "),
        (spoil_flat_val, "val/ILSVRC2012_val_00000001.JPEG lies beside the folders"),
        (spoil_annotation, "val/val_annotations.txt does not list val/n0"),
        (spoil_train, "these are no classes either: learning/, val/"),
    ],
)
def test_unknown_layouts_are_refused(tmp_path, source, refuse, spoil, message, form):
    spoil(source)
    given = source if form == "folder" else make_tar(source, tmp_path / "source.tar")
    arguments = ["imagefolder", "--source", given, "--out", tmp_path / "out", *FLAGS]
    assert message in refuse(*arguments)


def spoil_loop(source):
    (source / "train/n01/loop").symlink_to("..")


def spoil_depth(source):
    save(source / "train/n01/a/b/c/d/x.jpg", picture(1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_loop, "train/n01/loop links to a folder that it lies in: remove the link"),
        (spoil_depth, "train/n01/a/b/c/d lies too deep"),
    ],
)
def test_folders_are_not_left_out_in_silence(tmp_path, source, refuse, spoil, message):
    spoil(source)
    arguments = ["imagefolder", "--source", source, "--out", tmp_path / "out", *FLAGS]
    assert message in refuse(*arguments)


def test_tars_that_cannot_be_read_by_offset(tmp_path, source, refuse):
    def message(path):
        return refuse("imagefolder", "--source", path, "--out", tmp_path / "out", *FLAGS)

    for mode, kind in (("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")):
        found = message(make_tar(source, tmp_path / f"source.tar.{kind}", mode))
        assert f"is compressed ({kind})" in found
        assert "unpack it" in found
    whole = make_tar(source, tmp_path / "whole.tar").read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + -(-last.size // 512) * 512
    for size in (100, len(whole) // 2, last.offset, last.offset + 100, last.offset_data + 5, end):
        path = tmp_path / f"{size}.tar"
        path.write_bytes(whole[:size])
        assert "truncated" in message(path)
    (tmp_path / "text.tar").write_text("<html>" * 1000)
    assert "not a tar" in message(tmp_path / "text.tar")
    (source / "train" / "n01" / "link.JPEG").symlink_to("n01_train_0.JPEG")
    assert "link" in message(make_tar(source, tmp_path / "links.tar"))
    assert "does not exist" in message(tmp_path / "absent")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--write_mode", "png"], "--write_mode is 'png': choose one of raw, jpg, proportion"),
        (["--quality", "101"], "--quality is 101"),
        (["--max_side", "-1"], "--max_side is -1"),
        (["--max_side", "big"], "--max_side must be a whole number, not 'big'"),
        (["--workers", "0"], "--workers is 0"),
        (["--proportion", "2"], "--proportion is 2"),
        (["--per_class", "1"], "per_class is 1 and includes"),
        (["--seed", "a"], "--seed must be a whole number, not 'a'"),
    ],
)
def test_bad_flags_are_refused(tmp_path, source, refuse, flags, message):
    assert message in refuse("imagefolder", "--source", source, "--out", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_a_file_larger_than_any_picture_is_not_read(source, tmp_path, refuse):
    for file in (source / "train/n01").iterdir():
        os.truncate(file, 1 << 40)  # takes no place on the disk
    message = refuse("imagefolder", "--source", source, "--out", tmp_path / "out", *FLAGS)
    assert ".JPEG has 1,099,511,627,776 bytes" in message
