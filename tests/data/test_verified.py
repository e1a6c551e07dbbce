"""Prepared data are read once per file, and again whenever the file is not as it was then."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
from noise_data import prepare

from hdkd_dist.data import verified
from hdkd_dist.data.manifest import read_manifest, sha256_of
from hdkd_dist.data.verified import note_of, verify_content


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("source") / "noise")


@pytest.fixture
def data(source, tmp_path, cache):
    shutil.copytree(source.folder, tmp_path / "noise")
    return read_manifest(tmp_path / "noise")


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read as a whole, as that happens."""
    names = []

    def noting(path):
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(verified, "sha256_of", noting)
    return names


def overwrite(file):
    """Change a pixel; the size stays."""
    with file.open("r+b") as content:
        content.seek(5000)
        byte = content.read(1)
        content.seek(5000)
        content.write(bytes([byte[0] ^ 1]))


def test_files_are_read_once_and_then_known(data, read):
    times = verify_content(data)
    assert list(times) == list(data.splits)
    assert read == ["train.beton", "metaval.beton", "test.beton"]
    assert verify_content(data) == times
    assert len(read) == 3
    os.utime(data.path("test"))
    verify_content(data, ["test"])
    assert read[3:] == ["test.beton"]


@pytest.mark.parametrize("split", ["train", "metaval", "test"])
def test_noise_of_the_same_size_is_found(data, split):
    verify_content(data)
    overwrite(data.path(split))
    read_manifest(data.folder)  # the size is right
    for _ in range(2):  # it is not taken for verified because it was read
        with pytest.raises(ValueError, match=rf"{split}\.beton is damaged \(its sha256 differs"):
            verify_content(data)


def test_a_wrong_sha256_in_the_manifest_is_found(data):
    verify_content(data)
    splits = {**data.splits, "train": replace(data.splits["train"], sha256="0" * 64)}
    with pytest.raises(ValueError, match=r"train\.beton is damaged"):
        verify_content(replace(data, splits=splits))


def test_moved_and_copied_data_are_read_again(data, read, tmp_path):
    verify_content(data)
    shutil.copytree(data.folder, tmp_path / "copy")
    verify_content(replace(data, folder=tmp_path / "copy"))
    data.folder.rename(tmp_path / "moved")
    verify_content(replace(data, folder=tmp_path / "moved"))
    assert len(read) == 9


def test_what_has_just_been_prepared_is_known(cache, tmp_path, read):
    verify_content(prepare(tmp_path / "new"))
    assert read == []


@pytest.mark.parametrize("damage", ["", "[" * 100_000, "{}", '{"state": 3}', '{"state": {}}'])
def test_damaged_notes_count_for_nothing(data, read, damage):
    verify_content(data)
    note_of(data.path("train")).write_text(damage)
    verify_content(data)
    assert read[3:] == ["train.beton"]
    assert json.loads(note_of(data.path("train")).read_text())["path"] == str(data.path("train"))


def test_without_a_cache_all_is_read_each_time(data, read, cache):
    cache.write_text("no folder")
    verify_content(data)
    verify_content(data)
    assert len(read) == 6
