"""Arrays in, data set out."""

import io
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from hdkd_dist.data.manifest import read_manifest

generator = np.random.default_rng(0)
LABELS = generator.permutation(np.repeat(np.arange(3), 20))
IMAGES = generator.integers(0, 256, (60, 16, 16, 3), np.uint8)
TEST = {
    "x_test": generator.integers(0, 256, (9, 16, 16, 3), np.uint8),
    "y_test": np.repeat(np.arange(3), 3),
}
FLAGS = ("--per_class", "16", "--metaval_per_class", "4")


@pytest.fixture
def prepared(tmp_path, run_script):
    """Write arrays to a file and prepare them; return the manifest."""

    def run(arrays, *flags, out="out"):
        np.savez(tmp_path / "data.npz", **arrays)
        words = ["--source", tmp_path / "data.npz", "--out", tmp_path / out, *FLAGS, *flags]
        status, _, err = run_script("arrays", *words)
        assert status == 0, err
        return read_manifest(tmp_path / out)

    return run


def test_images_labels_and_normalisation(prepared, raw_samples):
    manifest = prepared({"x_train": IMAGES, "y_train": LABELS, **TEST})
    counts = {name: split.per_class for name, split in manifest.splits.items()}
    assert counts == {"train": (12,) * 3, "metaval": (4,) * 3, "test": (3,) * 3}
    assert manifest.classes == ("0", "1", "2")
    assert manifest.augmentation == {"flip": True, "translate": 2}
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    seen = []
    for split in ("train", "metaval"):
        images, labels = raw_samples(manifest.path(split))
        assert labels == [known[image.tobytes()] for image in images]
        seen += [image.tobytes() for image in images]
    assert len(set(seen)) == 48
    images, labels = raw_samples(manifest.path("test"))
    assert np.array_equal(images, TEST["x_test"])
    assert labels == TEST["y_test"].tolist()
    pixels = np.stack(raw_samples(manifest.path("train"))[0]).reshape(-1, 3) / 255
    np.testing.assert_allclose(manifest.image["mean"], pixels.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(manifest.image["std"], pixels.std(axis=0), atol=1e-4)


def test_gray_images_names_of_medmnist_and_a_test_split_on_request(prepared, raw_samples):
    gray = {"train_images": IMAGES[..., 0], "train_labels": LABELS[:, None].astype(np.uint8)}
    flags = ("--test_per_class", "4", "--classes", "cat,dog,eel", "--flip", "false")
    manifest = prepared(gray, *flags, "--translate", "0")
    assert manifest.classes == ("cat", "dog", "eel")
    assert manifest.augmentation == {"flip": False, "translate": 0}
    assert manifest.splits["test"].per_class == (4, 4, 4)
    found = [image for s in manifest.splits for image in raw_samples(manifest.path(s))[0]]
    assert len({image.tobytes() for image in found}) == 60
    assert all(np.array_equal(image[..., 0], image[..., 2]) for image in found)
    channel = {"images": IMAGES[..., :1], "labels": LABELS}
    assert prepared(channel, *flags, "--translate", "0") == manifest  # already prepared


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": IMAGES / np.float32(255)}, "of type float32, whose range nobody knows"),
        ({"x_train": IMAGES[:, :, :8]}, "images of 16×8 pixels: give square ones"),
        ({"x_train": IMAGES.transpose(0, 3, 1, 2)}, "has the shape (60, 3, 16, 16)"),
        ({"x_train": IMAGES[:50]}, "has 50 x_train but 60 y_train"),
        ({"y_train": LABELS - 1}, "give one whole number from 0 on"),
        ({"y_train": LABELS * 1.0}, "type float64"),
        ({"y_train": np.eye(3, dtype=int)[LABELS]}, "has the shape (60, 3)"),
        ({"y_train": LABELS * 0}, "class '1' has 0 usable images"),
        ({"y_train": LABELS * 0, "y_test": TEST["y_test"] * 0}, "no second class beside 0"),
        ({"y_train": np.where(LABELS == 1, 10**12, LABELS)}, "the largest label is 1000000000000"),
        ({"x_test": TEST["x_test"][:, :8, :8]}, "the two parts"),
        ({"x_train": None}, "has the arrays x_test, y_test, y_train: name them x_train"),
        ({"x_test": None}, "has no test part: draw one by --test_per_class"),
    ],
)
def test_what_is_no_data_set(tmp_path, refuse, change, message):
    arrays = {"x_train": IMAGES, "y_train": LABELS, **TEST, **change}
    np.savez(tmp_path / "data.npz", **{k: v for k, v in arrays.items() if v is not None})
    words = ["--source", tmp_path / "data.npz", "--out", tmp_path / "out", "--metaval_per_class", 3]
    assert message in refuse("arrays", *words)


def npz_with(path, member, data):
    np.savez(path, y_train=LABELS, **TEST)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{member}.npy", data)


def test_shapes_that_the_file_does_not_fill_and_objects(tmp_path, refuse):
    words = ["arrays", "--source", tmp_path / "data.npz", "--out", tmp_path / "out"]
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 16, 16, 3)}
    npy.write_array_header_1_0(buffer, header)
    npz_with(tmp_path / "data.npz", "x_train", buffer.getvalue() + bytes(999))
    assert "not as many bytes as its shape (1000000000, 16, 16, 3) says" in refuse(*words)
    np.savez(tmp_path / "data.npz", x_train=np.array([print, {}]), y_train=LABELS, **TEST)
    assert "x_train holds objects" in refuse(*words)
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 and so on")
    assert "damaged or no .npz file" in refuse(*words)
    (tmp_path / "data.npz").unlink()
    assert "does not exist: give a .npz file" in refuse(*words)
