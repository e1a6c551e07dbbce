import dataclasses
import json
import os

import pytest

from hdkd_dist.data.manifest import Manifest, Split, read_manifest, sha256_of, verify, write


@pytest.fixture
def manifest(tmp_path):
    splits = {}
    for number, name in enumerate(("train", "metaval", "test"), start=1):
        path = tmp_path / f"{name}.beton"
        path.write_bytes(bytes(range(256)) * number)
        splits[name] = Split(path.name, 3 * number, 256 * number, sha256_of(path), (number,) * 3)
    written = Manifest(
        folder=tmp_path,
        name="tiny",
        job={"data": "tiny", "per_class": None, "source": {"images": 7}},
        classes=("a", "b", "ü"),
        image={"size": 32, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
        augmentation={"flip": True, "translate": 4},
        splits=splits,
        skipped=("train/a/broken.jpg",),
    )
    write(written)
    return written


def edit(manifest, change):
    path = manifest.folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refusal(folder):
    with pytest.raises(ValueError, match=r"prepare") as caught:
        read_manifest(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    return message


def test_what_is_written_is_read_back(manifest):
    assert read_manifest(manifest.folder) == manifest


def test_the_file_is_the_documented_json(manifest):
    content = json.loads((manifest.folder / "manifest.json").read_text())
    assert list(content) == [
        "format",
        "name",
        "job",
        "classes",
        "image",
        "augmentation",
        "splits",
        "skipped",
    ]
    assert content["format"] == 1
    assert content["splits"]["metaval"] == {
        "file": "metaval.beton",
        "samples": 6,
        "bytes": 512,
        "sha256": sha256_of(manifest.folder / "metaval.beton"),
        "per_class": [2, 2, 2],
    }


def test_path_of_a_split(manifest):
    assert manifest.path("metaval") == manifest.folder / "metaval.beton"
    with pytest.raises(ValueError, match=r"no split 'val'.*train, metaval, test"):
        manifest.path("val")


def test_a_manifest_cannot_be_changed(manifest):
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.name = "other"


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("digits", "digits.py"),
        ("cifar100-150", "cifar100.py --source SOURCE"),
        ("cifar10-1000", "cifar10.py --source SOURCE"),
        ("imagenet", "imagefolder.py --source SOURCE"),
    ],
)
def test_no_folder_tells_the_command_that_prepares_such_data(tmp_path, name, script):
    message = refusal(tmp_path / name)
    assert "does not exist" in message
    assert message.endswith(f"python data_prep/{script} --out {tmp_path / name}")


def test_no_manifest_tells_the_prepare_command(tmp_path):
    message = refusal(tmp_path)
    assert "has no manifest.json" in message
    assert "data_prep/imagefolder.py --source SOURCE" in message


def test_malformed_json(manifest):
    path = manifest.folder / "manifest.json"
    path.write_text(path.read_text()[:100])
    message = refusal(manifest.folder)
    assert "manifest.json" in message
    assert "line" in message
    assert "prepare the data set again" in message


def test_unknown_format(manifest):
    edit(manifest, lambda content: content.update(format=2))
    assert "format 2, this version reads 1" in refusal(manifest.folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda content: content.pop("classes"), "classes"),
        (lambda content: content["splits"].pop("metaval"), "metaval"),
        (lambda content: content["splits"]["train"].pop("sha256"), "sha256"),
        (lambda content: content["splits"]["train"].update(extra=1), "extra"),
        (lambda content: content["splits"]["train"].update(bytes="256"), "whole numbers"),
        (lambda content: content["splits"]["train"].update(samples=4), "per_class"),
        (lambda content: content["splits"]["test"].update(file="../test.beton"), "plain file name"),
        (lambda content: content["image"].update(mean=[0.5]), "channel"),
        (lambda content: content.update(splits=[]), "manifest of this project"),
        (lambda content: content.update(image=None), "manifest of this project"),
        (lambda content: content.update(name="../X"), "'../X' is not a plain file name"),
        (lambda content: content.update(name=".."), "plain file name"),
        (lambda content: content.update(name=""), "plain file name"),
        (lambda content: content.update(name=3), "plain file name"),
        (lambda content: content["splits"]["test"].update(file=".."), "plain file name"),
        (lambda content: content["splits"]["test"].update(per_class=[-1, 5, 5]), "whole numbers"),
        (lambda content: content["splits"]["test"].update(per_class=[3.0, 3, 3]), "whole numbers"),
        (lambda content: content["splits"]["test"].update(samples=True), "whole numbers"),
        (lambda content: content["image"].update(std=[0.2, 0, 0.2]), "greater than 0"),
        (lambda content: content["image"].update(std=["a", 0.2, 0.2]), "finite numbers"),
        (lambda content: content["image"].update(mean=[float("nan")] * 3), "image.mean.0 is nan"),
        (lambda content: content["image"].update(size=0), "no number of pixels"),
        (lambda content: content["image"].update(size="32"), "no number of pixels"),
        (lambda content: content.update(classes=["a"]), "two classes or more"),
        (lambda content: content.update(classes=["a", "b", 3]), "must be names"),
    ],
)
def test_entries_that_do_not_fit(manifest, change, word):
    edit(manifest, change)
    assert word in refusal(manifest.folder)


def test_numbers_beyond_floating_point_and_deep_json(manifest):
    path = manifest.folder / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace("0.5,", "1e999,"))
    assert "image.mean.0 is inf" in refusal(manifest.folder)
    path.write_text("[" * 100_000)
    assert "cannot read" in refusal(manifest.folder)
    path.unlink()
    os.mkfifo(path)
    assert "has no manifest.json" in refusal(manifest.folder)


def test_the_meta_validation_split_is_missing_only_where_it_was_asked_for(manifest):
    def without_metaval(content):
        del content["splits"]["metaval"]
        content["job"]["metaval_per_class"] = 0

    edit(manifest, without_metaval)
    found = read_manifest(manifest.folder)
    assert list(found.splits) == ["train", "test"]
    assert found.digest != manifest.digest
    with pytest.raises(ValueError, match="no meta-validation split"):
        found.path("metaval")


def test_json_that_is_no_object(manifest):
    (manifest.folder / "manifest.json").write_text("[1]")
    assert "it holds no JSON object" in refusal(manifest.folder)


def test_missing_file(manifest):
    (manifest.folder / "test.beton").unlink()
    message = refusal(manifest.folder)
    assert "test.beton is missing" in message
    assert "prepare the data set again" in message


def test_truncated_file(manifest):
    path = manifest.folder / "metaval.beton"
    path.write_bytes(path.read_bytes()[:-1])
    message = refusal(manifest.folder)
    assert "metaval.beton is truncated (511 bytes instead of 512)" in message


def test_file_that_grew(manifest):
    with open(manifest.folder / "train.beton", "ab") as file:
        file.write(b"x")
    assert "not the file that was written" in refusal(manifest.folder)


def test_verify_finds_one_changed_byte(manifest):
    verify(read_manifest(manifest.folder))
    path = manifest.folder / "test.beton"
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    changed = read_manifest(manifest.folder)  # the size is right
    with pytest.raises(ValueError, match=r"test.beton is damaged"):
        verify(changed)
