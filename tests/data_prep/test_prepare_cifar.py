import io
import os
import pickle
import resource
import struct
import tarfile

import numpy as np
import pytest

from hdkd_dist.data.manifest import read_manifest

CLASSES = 4
TRAIN, TEST = 10, 3  # images per class


def make_part(per_class, seed):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(CLASSES), per_class))
    return {
        b"data": generator.integers(0, 256, (len(labels), 3 * 32 * 32), np.uint8),
        b"fine_labels": labels.tolist(),
        b"coarse_labels": [0] * len(labels),
        b"filenames": [b"x.png"] * len(labels),
    }


PARTS = {
    "train": make_part(TRAIN, 0),
    "test": make_part(TEST, 1),
    "meta": {b"fine_label_names": [b"apple", b"bear", b"cup", b"dog"]},
}


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 and its numpy wrote into the official archive: strings are bytes."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, text):
        data = text if isinstance(text, bytes) else text.encode("ascii")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[bytes] = dispatch[str] = save_string


def python2_pickle(content):
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def archive(path, members, mode="w:gz", folder="cifar-100-python"):
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def source(tmp_path):
    members = {name: python2_pickle(part) for name, part in PARTS.items()}
    return archive(tmp_path / "cifar-100-python.tar.gz", members | {"file.txt~": b"x"})


@pytest.fixture
def arguments(tmp_path):
    return ["--out", tmp_path / "out", "--per_class", "8", "--metaval_per_class", "3"]


def keys_of(part):
    return {
        (row.tobytes(), label)
        for row, label in zip(part[b"data"], part[b"fine_labels"], strict=True)
    }


def test_images_are_the_archives(tmp_path, source, arguments, run_script, raw_samples):
    status, out, _ = run_script("cifar100", "--source", source, *arguments)
    assert status == 0
    assert "4 classes, images: train 20, metaval 12, test 12" in out
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ("apple", "bear", "cup", "dog")
    assert manifest.augmentation == {"flip": True, "translate": 4}
    assert manifest.image["size"] == 32
    assert manifest.splits["train"].per_class == (5,) * 4
    assert manifest.splits["metaval"].per_class == (3,) * 4
    found = {}
    for split in manifest.splits:
        images, labels = raw_samples(manifest.path(split))
        # [32,32,3] back to the archive's planes
        keys = [image.transpose(2, 0, 1).tobytes() for image in images]
        found[split] = set(zip(keys, labels, strict=True))
    assert found["test"] == keys_of(PARTS["test"])
    assert found["train"] | found["metaval"] < keys_of(PARTS["train"])
    assert len(found["train"] | found["metaval"]) == 32


def test_the_extra_split_holds_what_is_left_over(
    tmp_path, source, arguments, run_script, raw_samples
):
    status, out, _ = run_script("cifar100", "--source", source, *arguments, "--extra", "true")
    assert status == 0
    assert "train 20, metaval 12, test 12, extra 8" in out
    manifest = read_manifest(tmp_path / "out")
    assert manifest.splits["extra"].per_class == (2,) * 4
    plain = ["--out", tmp_path / "plain", *arguments[2:]]
    assert run_script("cifar100", "--source", source, *plain)[0] == 0
    without = read_manifest(tmp_path / "plain")
    assert set(without.splits) == {"train", "metaval", "test"}
    assert manifest.digest == without.digest  # results on the other splits can be compared
    found = set()
    for split in ("train", "metaval", "extra"):
        images, labels = raw_samples(manifest.path(split))
        keys = [image.transpose(2, 0, 1).tobytes() for image in images]
        found |= set(zip(keys, labels, strict=True))
    assert found == keys_of(PARTS["train"])  # 40 images in all: none is in two splits
    status, out, _ = run_script("cifar100", "--source", source, *arguments, "--extra", "true")
    assert (status, "already prepared" in out) == (0, True)


def test_an_extra_split_needs_images_that_are_left_over(tmp_path, source, refuse):
    flags = ["--out", tmp_path / "out", "--metaval_per_class", "3", "--extra", "true"]
    assert "lower --per_class" in refuse("cifar100", "--source", source, *flags)


def test_data_without_an_extra_split_are_not_those_with_one(source, arguments, run_script, refuse):
    assert run_script("cifar100", "--source", source, *arguments)[0] == 0
    message = refuse("cifar100", "--source", source, *arguments, "--extra", "true")
    assert "extra (None there, True asked for)" in message


def test_folder_archive_and_modern_pickles_are_the_same_data(
    tmp_path, source, arguments, run_script, raw_samples
):
    assert run_script("cifar100", "--source", source, *arguments)[0] == 0
    with tarfile.open(source) as tar:
        tar.extractall(tmp_path / "unpacked")  # our own archive
    for folder in ("unpacked", "unpacked/cifar-100-python"):
        status, out, _ = run_script("cifar100", "--source", tmp_path / folder, *arguments)
        assert status == 0
        assert "already prepared" in out
    modern = {name: pickle.dumps(part, protocol=4) for name, part in PARTS.items()}
    archive(tmp_path / "modern.tar", modern, mode="w")
    other = ["--out", tmp_path / "other", *arguments[2:]]
    assert run_script("cifar100", "--source", tmp_path / "modern.tar", *other)[0] == 0
    assert read_manifest(tmp_path / "other").splits == read_manifest(tmp_path / "out").splits


class Hostile:
    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("member", ["train", "meta"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [open, os.system, eval])
def test_a_hostile_archive_runs_no_code(tmp_path, arguments, refuse, member, protocol, call):
    trace = tmp_path / "trace"
    argument = {
        open: (str(trace), "w"),
        os.system: (f"touch {trace}",),
        eval: (f"open({str(trace)!r}, 'w')",),
    }[call]
    hostile = pickle.dumps({"data": Hostile(call, *argument)}, protocol=protocol)
    pickle.loads(hostile)  # it does what it should where nothing stops it
    assert trace.exists()
    trace.unlink()
    members = {name: pickle.dumps(part) for name, part in PARTS.items()} | {member: hostile}
    source = archive(tmp_path / "evil.tar.gz", members)
    message = refuse("cifar100", "--source", source, *arguments)
    assert f"cannot read {member} in {source}" in message
    assert call.__name__ in message
    assert "refused" in message
    assert not trace.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_archive_is_refused(source, arguments, refuse, part):
    data = source.read_bytes()
    source.write_bytes(data[: int(part * len(data))])
    message = refuse("cifar100", "--source", source, *arguments)
    assert f"cannot read {source}, truncated" in message
    assert "download" in message


def test_a_truncated_plain_tar_is_refused(tmp_path, arguments, refuse):
    members = {name: python2_pickle(part) for name, part in PARTS.items()}
    source = archive(tmp_path / "plain.tar", members, mode="w")
    source.write_bytes(source.read_bytes()[:50_000])
    assert "truncated" in refuse("cifar100", "--source", source, *arguments)


def test_damaged_archives_are_refused(source, arguments, refuse):
    data = bytearray(source.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    source.write_bytes(data)
    assert "cannot read" in refuse("cifar100", "--source", source, *arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta": None}, "no meta in it"),
        ({"train": None, "meta": None}, "no train, meta in it"),
        ({"train": b"\x80\x04"}, "cannot read train"),
        ({"train": b""}, "cannot read train"),
        ({"train": pickle.dumps([1])}, "train in"),
        ({"meta": pickle.dumps({b"label_names": [b"cat"]})}, "fine_label_names"),
        ({"meta": pickle.dumps({b"fine_label_names": [b"cat"]})}, "do not fit together"),
        ({"test": pickle.dumps(PARTS["test"] | {b"fine_labels": [1]})}, "do not fit together"),
        ({"test": pickle.dumps(PARTS["test"] | {b"data": np.zeros((12, 3072))})}, "type 'f8'"),
        ({"test": pickle.dumps(PARTS["test"] | {b"data": np.zeros((3, 7), "u1")})}, "reshape"),
    ],
)
def test_foreign_content_is_refused(tmp_path, arguments, refuse, changes, message):
    members = {name: pickle.dumps(part) for name, part in PARTS.items()} | changes
    members = {name: data for name, data in members.items() if data is not None}
    source = archive(tmp_path / "foreign.tar.gz", members)
    assert message in refuse("cifar100", "--source", source, *arguments)


# A few bytes that ask for a table of 2^30 entries, and for a buffer of as many bytes.
GREEDY = {
    "memo": pickle.PROTO + b"\x04" + pickle.EMPTY_DICT + pickle.LONG_BINPUT
    + struct.pack("<I", 1 << 30) + pickle.STOP,
    "text memo": pickle.EMPTY_DICT + pickle.PUT + b"1073741824\n" + pickle.STOP,
    "buffer": pickle.PROTO + b"\x05" + pickle.BYTEARRAY8 + struct.pack("<Q", 1 << 30) + bytes(9),
}  # fmt: skip


@pytest.mark.parametrize("kind", GREEDY)
def test_pickles_that_ask_for_memory_they_do_not_fill(tmp_path, arguments, refuse, kind):
    members = {name: pickle.dumps(part) for name, part in PARTS.items()} | {"train": GREEDY[kind]}
    source = archive(tmp_path / "greedy.tar.gz", members)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "cannot read train in" in refuse("cifar100", "--source", source, *arguments)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_members_larger_than_any_official_one(tmp_path, arguments, refuse):
    path = tmp_path / "large.tar"
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("cifar-100-python/train")
        entry.size = 1 << 40
        tar.addfile(entry)
    assert "more than any in CIFAR-100" in refuse("cifar100", "--source", path, *arguments)


def test_cifar10_beside_it(tmp_path, run_script, raw_samples, refuse):
    def part(seed, per_class=6):
        found = make_part(per_class, seed)
        return {b"data": found[b"data"], b"labels": found[b"fine_labels"]}

    batches = {f"data_batch_{number}": part(number) for number in range(1, 6)}
    names = [b"airplane", b"bird", b"cat", b"dog"]
    parts = {**batches, "test_batch": part(9, 3), "batches.meta": {b"label_names": names}}
    members = {name: python2_pickle(content) for name, content in parts.items()}
    source = archive(tmp_path / "cifar-10-python.tar.gz", members, folder="cifar-10-batches-py")
    flags = ["--metaval_per_class", "5"]
    status, out, _ = run_script("cifar10", "--source", source, "--out", tmp_path / "out", *flags)
    assert status == 0
    assert "cifar10, 4 classes, images: train 100, metaval 20, test 12" in out
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ("airplane", "bird", "cat", "dog")
    found = set()
    for split in ("train", "metaval"):
        images, labels = raw_samples(manifest.path(split))
        keys = [image.transpose(2, 0, 1).tobytes() for image in images]
        found |= set(zip(keys, labels, strict=True))
    assert found == {
        (row.tobytes(), label)
        for content in batches.values()
        for row, label in zip(content[b"data"], content[b"labels"], strict=True)
    }
    message = refuse("cifar100", "--source", source, "--out", tmp_path / "other", *flags)
    assert "is not CIFAR-100: no train, test, meta in it" in message


def test_sources_that_are_no_archive(tmp_path, arguments, refuse):
    assert "does not exist" in refuse("cifar100", "--source", tmp_path / "absent", *arguments)
    text = tmp_path / "text.tar.gz"
    text.write_text("<html>not found</html>")
    assert f"cannot read {text}" in refuse("cifar100", "--source", text, *arguments)
    (tmp_path / "empty").mkdir()
    message = refuse("cifar100", "--source", tmp_path / "empty", *arguments)
    assert "no train, test, meta in it" in message


def test_too_many_per_class_names_the_class(source, tmp_path, refuse):
    flags = ["--out", tmp_path / "out", "--per_class", "11", "--metaval_per_class", "2"]
    message = refuse("cifar100", "--source", source, *flags)
    assert "class 'apple' has 10 usable images, but 11 are needed (2 of them" in message
