import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.preparing.digits import prepare_digits, to_rgb


def test_the_command_and_the_first_use_give_the_same(tmp_path, run_script, capsys):
    status, out, _ = run_script("digits", "--out", tmp_path / "digits")
    assert status == 0
    assert "10 classes, images: train 1,097, metaval 300, test 400" in out
    written = read_manifest(tmp_path / "digits")
    assert prepare_digits(tmp_path / "digits") == written
    assert capsys.readouterr() == ("", "")


def test_every_image_is_in_one_split(tmp_path, raw_samples):
    manifest = prepare_digits(tmp_path / "digits")
    assert manifest.splits["metaval"].per_class == (30,) * 10
    assert manifest.splits["test"].per_class == (40,) * 10
    found = []
    for split in manifest.splits:
        images, labels = raw_samples(manifest.path(split))
        found += [(image.tobytes(), label) for image, label in zip(images, labels, strict=True)]
    bunch = load_digits()
    images = to_rgb(bunch.images)
    expected = [(i.tobytes(), int(label)) for i, label in zip(images, bunch.target, strict=True)]
    assert sorted(found) == sorted(expected)
    assert np.allclose(images.mean() / 255, manifest.image["mean"], atol=1e-3)
    assert np.allclose(images.std() / 255, manifest.image["std"], atol=1e-3)


def test_pixels_keep_the_values():
    values = load_digits().images[:5]
    images = to_rgb(values)
    assert images.shape == (5, 16, 16, 3)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = images[:, row::2, column::2].astype(float) * 16 / 255
        assert np.abs(part - values[..., None]).max() < 0.04


def test_the_test_split_is_the_same_for_every_seed(tmp_path):
    first = prepare_digits(tmp_path / "a", per_class=60, seed=0)
    other = prepare_digits(tmp_path / "b", per_class=60, seed=1)
    assert first.splits["test"] == other.splits["test"]
    assert first.splits["train"] != other.splits["train"]
    assert first.splits["train"].per_class == (30,) * 10


def test_bad_requests_are_refused(tmp_path, refuse):
    out = tmp_path / "digits"
    assert "138 usable images, but 140 are needed" in refuse(
        "digits", "--out", out, "--per_class=140"
    )
    assert "--seed must be a whole number, not 'x'" in refuse("digits", "--out", out, "--seed", "x")
    assert "--workers is 0" in refuse("digits", "--out", out, "--workers", "0")
    assert not list(tmp_path.iterdir())
    prepare_digits(out)
    assert "seed (0 there, 4 asked for)" in refuse("digits", "--out", out, "--seed", "4")


def test_samples_are_test_images_named_after_their_class(tmp_path, raw_samples):
    manifest = prepare_digits(tmp_path)
    files = sorted((tmp_path / "samples").glob("*.png"))
    assert len(files) == 20
    test, labels = raw_samples(manifest.path("test"))
    for file in files:
        with Image.open(file) as image:
            pixels = np.asarray(image)
        same = [label for each, label in zip(test, labels, strict=True) if (each == pixels).all()]
        assert int(file.name.split("_")[1]) in same


def test_missing_samples_come_back(tmp_path):
    prepare_digits(tmp_path)
    lost = tmp_path / "samples" / "digit_3_1.png"
    lost.unlink()
    prepare_digits(tmp_path)
    assert lost.is_file()
