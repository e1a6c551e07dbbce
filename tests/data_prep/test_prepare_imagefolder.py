import io
import os

import numpy as np
import pytest
import torch
from entry_points import call
from ffcv.reader import Reader
from image_files import CLASSES, FLAGS, TRAIN, make_source, make_tar, picture, prepare, save
from PIL import Image

from hdkd_dist.data.manifest import read_manifest, verify
from hdkd_dist.data.preparing.write import draw_splits
from hdkd_dist.data.readers.opening import open_split
from hdkd_dist.data.streams import ReadOptions


def test_splits_and_manifest(tmp_path, source, run_script):
    (source / "train" / "n01" / "README.txt").write_text("no image")
    (source / "train" / "n01" / "._hidden.JPEG").write_bytes(b"of a Mac")
    manifest, out, _ = prepare(run_script, source, tmp_path / "out")
    verify(manifest)
    assert "out, 3 classes, images: train 12, metaval 6, test 6" in out
    assert manifest.name == "out"
    assert manifest.classes == CLASSES
    assert [split.per_class for split in manifest.splits.values()] == [(4,) * 3, (2,) * 3, (2,) * 3]
    assert manifest.image["size"] is None
    assert manifest.augmentation == {"flip": True, "resized_crop": True}
    assert manifest.skipped == ()


def test_pixels_are_the_files(tmp_path, run_script, raw_samples):
    source = make_source(tmp_path / "source", "png", form="PNG")
    manifest, _, _ = prepare(run_script, source, tmp_path / "out", "--write_mode", "raw")
    files = {
        np.asarray(Image.open(path)).tobytes(): (path.parts[-3], CLASSES.index(path.parts[-2]))
        for path in source.rglob("*.png")
    }
    seen = set()
    for split, part in (("train", "train"), ("metaval", "train"), ("test", "val")):
        for image, label in zip(*raw_samples(manifest.path(split)), strict=True):
            assert image.shape == (30, 40, 3)
            assert files[image.tobytes()] == (part, label)
            seen.add(image.tobytes())
    assert len(seen) == 24  # none is in two splits


def test_folder_and_tar_with_and_without_a_top_folder_are_the_same_data(
    tmp_path, source, run_script
):
    around = tmp_path / "around"
    around.mkdir()
    sources = [
        source,
        make_tar(source, tmp_path / "plain.tar"),
        make_tar(source, tmp_path / "top.tar", arcname="imagenet"),
        tmp_path / "around",
    ]
    first, _, _ = prepare(run_script, source, tmp_path / "out")
    source.rename(around / "imagenet")
    for other in sources[1:]:
        found, _, _ = prepare(run_script, other, tmp_path / f"out-{other.name}")
        assert found.splits == first.splits
        assert found.job == first.job
    _, out, _ = prepare(run_script, sources[1], tmp_path / "out")
    assert "already prepared" in out


def test_tiny_imagenet_is_the_same_data(tmp_path, source, run_script):
    tiny = make_source(tmp_path / "tiny", inner="images")
    (tiny / "test" / "images").mkdir(parents=True)
    save(tiny / "test" / "images" / "test_0.JPEG", picture(9))
    (tiny / "words.txt").write_text("n01\tthing\n")
    for path in tiny.glob("train/*"):
        (path / f"{path.name}_boxes.txt").write_text("n01_0.JPEG\t0\t0\t62\t62\n")
    lines = []
    (tiny / "val" / "images").mkdir()
    for path in sorted(tiny.glob("val/n0*/images/*")):
        lines.append(f"{path.name}\t{path.parts[-3]}\t0\t0\t62\t62\n")
        path.rename(tiny / "val" / "images" / path.name)
        if not list(path.parent.iterdir()):
            path.parent.rmdir()
            path.parent.parent.rmdir()
    (tiny / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    expected, _, _ = prepare(run_script, source, tmp_path / "expected")
    for given in (tiny, make_tar(tiny, tmp_path / "tiny.tar", arcname="tiny-imagenet-200")):
        found, _, _ = prepare(run_script, given, tmp_path / f"out-{given.name}")
        assert found.splits == expected.splits


def test_files_that_are_not_plain_rgb(tmp_path, run_script, raw_samples):
    source = make_source(tmp_path / "source", "png", form="PNG")
    base = picture(77)
    gray = np.asarray(base.convert("L"))
    folder = source / "train" / "n02"
    for path in folder.iterdir():
        path.unlink()
    save(folder / "gray.JPEG", base.convert("L"), "PNG")
    save(folder / "wide.png", Image.fromarray(gray.astype(np.uint16) * 257), "PNG")
    save(folder / "named_wrongly.JPEG", base, "PNG")
    save(folder / "transparent.png", base.convert("RGBA"), "PNG")
    save(folder / "palette.GIF", base.convert("L"), "GIF")
    save(folder / "cmyk.jpg", base.convert("CMYK"), "JPEG")
    manifest, _, _ = prepare(run_script, source, tmp_path / "out", "--write_mode", "raw")
    assert manifest.skipped == ()
    found = []
    for split in ("train", "metaval"):
        images, labels = raw_samples(manifest.path(split))
        found += [image for image, label in zip(images, labels, strict=True) if label == 1]
    assert len(found) == 6
    in_gray, in_colour = np.repeat(gray[..., None], 3, axis=2), np.asarray(base)
    assert sum(np.array_equal(image, in_gray) for image in found) == 3
    assert sum(np.array_equal(image, in_colour) for image in found) == 2
    distances = sorted(np.abs(image.astype(int) - in_colour).mean() for image in found)
    assert 0 < distances[2] < 5  # CMYK: through JPEG


def colours_of(raw_samples, manifest):
    found = {}
    for split in manifest.splits:
        images, labels = raw_samples(manifest.path(split))
        found[split] = {
            (image.tobytes(), label) for image, label in zip(images, labels, strict=True)
        }
    return found


def test_corrupt_files_are_replaced_and_listed(tmp_path, source, run_script, raw_samples):
    whole, _, _ = prepare(run_script, source, tmp_path / "whole", "--write_mode", "raw")
    before = colours_of(raw_samples, whole)
    train, metaval = draw_splits(np.repeat(np.arange(3), TRAIN), 6, 2, seed=0)
    numbers = sorted(p - TRAIN for p in (*train, *metaval) if p // TRAIN == 1)  # drawn of n02
    bad, good = numbers[:3], sorted(set(range(TRAIN)) - set(numbers[:3]))
    files = {i: source / "train" / "n02" / f"n02_train_{i}.JPEG" for i in range(TRAIN)}
    files[bad[0]].write_bytes(files[bad[0]].read_bytes()[:300])
    files[bad[1]].write_bytes(b"")
    files[bad[2]].write_bytes(b"<html>404 not found</html>")
    in_val = source / "val" / "n03" / "n03_val_1.JPEG"
    in_val.write_bytes(in_val.read_bytes()[:-40])
    for given, workers in ((source, 1), (make_tar(source, tmp_path / "source.tar"), 2)):
        found, _, err = prepare(
            run_script, given, tmp_path / f"{workers}", "--write_mode", "raw", "--workers", workers
        )
        skipped = [f"train/n02/n02_train_{i}.JPEG" for i in bad] + ["val/n03/n03_val_1.JPEG"]
        assert list(found.skipped) == skipped
        assert "4 files could not be used" in err
        assert all(f"\n  {name}: " in err for name in skipped)
        assert found.splits["train"].per_class == (4, 4, 4)
        assert found.splits["metaval"].per_class == (2, 2, 2)
        assert found.splits["test"].per_class == (2, 2, 1)
        after = colours_of(raw_samples, found)
        for split in ("train", "metaval"):
            others = {image for image in before[split] if image[1] != 1}
            assert {image for image in after[split] if image[1] != 1} == others
        drawn = {image for image, label in after["train"] | after["metaval"] if label == 1}
        assert drawn == {np.asarray(Image.open(files[i])).tobytes() for i in good}


def test_names_of_other_encodings_and_links_to_nowhere_are_listed(tmp_path, source):
    strange = os.fsencode(source / "val/n01") + b"/caf\xe9.jpg"
    with open(strange, "wb") as file:
        file.write(b"no image")
    (source / "val/n02/lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    words = ["--source", str(source), "--out", str(tmp_path / "out"), *FLAGS]
    done = call("data_prep/imagefolder.py", *words, cwd=tmp_path)
    assert done.returncode == 0
    assert "val/n02/lost.jpg: there is nothing in it" in done.stderr
    found = read_manifest(tmp_path / "out")
    assert list(found.skipped) == ["val/n01/caf\udce9.jpg", "val/n02/lost.jpg"]
    assert found.splits["test"].per_class == (2, 2, 2)


def test_too_few_good_images_name_the_class(tmp_path, source, refuse):
    for i in range(4):
        (source / "train" / "n02" / f"n02_train_{i}.JPEG").write_bytes(b"")
    message = refuse("imagefolder", "--source", source, "--out", tmp_path / "out", *FLAGS)
    assert "class 'n02' has 5 usable images (4 corrupt), but 6 are needed" in message
    assert not (tmp_path / "out").exists()


def test_large_images_are_shrunk(tmp_path, source, run_script, raw_samples):
    save(source / "val" / "n01" / "large.png", picture(3, (300, 100)), "PNG")
    flags = ("--write_mode", "raw")
    shrunk, _, _ = prepare(run_script, source, tmp_path / "a", *flags, "--max_side", "150")
    kept, _, _ = prepare(run_script, source, tmp_path / "b", *flags, "--max_side", "0")
    shapes = [{image.shape for image in raw_samples(m.path("test"))[0]} for m in (shrunk, kept)]
    assert shapes == [{(30, 40, 3), (50, 150, 3)}, {(30, 40, 3), (100, 300, 3)}]


def test_quality_changes_the_jpegs_that_are_written(tmp_path, source, run_script):
    def sha256(quality, *flags):
        out = tmp_path / "-".join((quality, *flags))
        manifest, _, _ = prepare(run_script, source, out, "--quality", quality, *flags)
        return manifest.splits["train"].sha256

    assert sha256("95") == sha256("30")  # the source's JPEGs are small: nothing is written anew
    assert sha256("95", "--max_side", "20") != sha256("30", "--max_side", "20")
    assert sha256("95", "--keep_jpegs", "false") != sha256("30", "--keep_jpegs", "false")


def stored_images(path):
    """Each image's record and stored bytes, read from the file's own tables."""
    reader = Reader(str(path))
    content = path.read_bytes()
    starts, sizes = reader.alloc_table["ptr"], reader.alloc_table["size"]
    assert np.array_equal(reader.metadata["f0"]["data_ptr"], starts)
    return [
        (record, content[start : start + size])
        for record, start, size in zip(reader.metadata["f0"], starts, sizes, strict=True)
    ]


def test_jpegs_that_need_no_change_are_stored_as_they_are(tmp_path, source, run_script):
    turned = Image.Exif()
    turned[0x0112] = 6
    folder = source / "val/n01"
    picture(1).convert("L").save(folder / "a_gray.jpg", progressive=True)
    picture(2).save(folder / "b_turned.jpg", exif=turned)
    picture(3).convert("CMYK").save(folder / "c_cmyk.jpg")
    picture(4, (90, 30)).save(folder / "d_large.jpg")
    picture(5).save(folder / "e_png.jpg", "PNG")
    manifest, _, _ = prepare(run_script, source, tmp_path / "out", "--max_side", "60")
    files = sorted(source.glob("val/*/*"), key=lambda path: path.parts[-2:])
    originals = [path.read_bytes() for path in files]
    changed = []
    for path, original, (record, data) in zip(
        files, originals, stored_images(manifest.path("test")), strict=True
    ):
        stored = Image.open(io.BytesIO(data))
        assert (stored.format, stored.size) == ("JPEG", (record["width"], record["height"]))
        if data != original:
            changed.append(path.name)
            assert stored.mode == "RGB"
    assert changed == ["b_turned.jpg", "c_cmyk.jpg", "d_large.jpg", "e_png.jpg"]
    sizes = {path.name: (r["width"], r["height"]) for path, (r, _) in zip(
        files, stored_images(manifest.path("test")), strict=True)}  # fmt: skip
    assert sizes["b_turned.jpg"] == (30, 40)  # upright
    assert sizes["d_large.jpg"] == (60, 20)


def test_kept_jpegs_read_as_pillow_decodes_them(tmp_path, source, run_script):
    for path in source.glob("*/*/*"):
        save(path, picture(len(path.name), (40, 40)))
    picture(1, (40, 40)).convert("L").save(source / "val/n01/a_gray.jpg", progressive=True)
    manifest, _, _ = prepare(run_script, source, tmp_path / "out", "--recipe", "shift")
    files = sorted(source.glob("val/*/*"), key=lambda path: path.parts[-2:])
    reading = ReadOptions(torch.device("cpu"))
    reader = open_split(manifest, "test", image_size=40, batch=4, reading=reading)
    found = np.concatenate([each.images.numpy() for each in reader.read(np.arange(len(files)))])
    for image, path in zip(found.transpose(0, 2, 3, 1), files, strict=True):
        expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
        assert np.abs(image - expected).mean() < 1


def test_small_images_of_one_size_can_be_shifted_as_cifars(tmp_path, source, run_script, refuse):
    flags = ("--recipe", "shift")
    message = refuse("imagefolder", "--source", source, "--out", tmp_path / "no", *FLAGS, *flags)
    assert "square images of at most 64 pixels, but train/n01/n01_train_" in message
    small = make_source(tmp_path / "small", size=(40, 40))
    manifest, _, _ = prepare(run_script, small, tmp_path / "out", *flags)
    assert manifest.image["size"] == 40
    assert manifest.augmentation == {"flip": True, "translate": 5}
    save(small / "val/n02/other.png", picture(1, (41, 40)), "PNG")
    message = refuse("imagefolder", "--source", small, "--out", tmp_path / "no", *FLAGS, *flags)
    assert "val/n02/other.png 41×40" in message
    assert "--recipe is 'cutout': choose one of crop, shift" in refuse(
        "imagefolder", "--source", small, "--out", tmp_path / "no", "--recipe", "cutout"
    )


def test_own_mean_and_deviation_are_those_of_the_training_split(tmp_path, run_script, raw_samples):
    source = make_source(tmp_path / "source", "png", form="PNG")
    flags = ("--normalise", "own", "--write_mode", "raw")
    manifest, _, _ = prepare(run_script, source, tmp_path / "out", *flags)
    images, _ = raw_samples(manifest.path("train"))
    pixels = np.stack(images).reshape(-1, 3) / 255  # all of one size
    np.testing.assert_allclose(manifest.image["mean"], pixels.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(manifest.image["std"], pixels.std(axis=0), atol=1e-4)
    default, _, _ = prepare(run_script, source, tmp_path / "imagenet")
    assert default.image["mean"] == [0.485, 0.456, 0.406]


def test_without_metaval_all_images_train(tmp_path, source, run_script):
    flags = ["--source", source, "--out", tmp_path / "out", "--metaval_per_class", "0"]
    status, out, err = run_script("imagefolder", *flags, "--workers", "1")
    assert (status, "note:" in err) == (0, False)
    assert "train 27, test 6" in out
    manifest = read_manifest(tmp_path / "out")
    assert list(manifest.splits) == ["train", "test"]
    assert len(manifest.digest) == 12
    with pytest.raises(ValueError, match=r"no meta-validation split.*--metaval_per_class 0"):
        manifest.path("metaval")


def test_a_large_part_for_metaval_is_noted(tmp_path, source, run_script):
    _, _, err = prepare(run_script, source, tmp_path / "out")
    assert "note: meta-validation has 33% of the images" in err
    _, _, err = prepare(run_script, source, tmp_path / "b", "--per_class", "9")
    assert "note: meta-validation" not in err
