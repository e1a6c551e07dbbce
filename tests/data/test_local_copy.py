"""Copies of a data set on another disk: verified, complete or not there."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest
from noise_data import prepare

from hdkd_dist.data import local_copy
from hdkd_dist.data.local_copy import copy_of, make_local_copy, read_local_copy
from hdkd_dist.data.manifest import verify


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("source") / "noise")


def test_copy_is_equal_and_is_used_again(source, tmp_path):
    make_local_copy(source, tmp_path)
    found = read_local_copy(source, tmp_path)
    assert replace(found, folder=source.folder) == source
    verify(found)
    written = found.path("train").stat().st_mtime_ns
    make_local_copy(source, tmp_path)
    assert found.path("train").stat().st_mtime_ns == written


def test_damaged_copy_is_replaced(source, tmp_path):
    make_local_copy(source, tmp_path)
    file = copy_of(source, tmp_path) / "train.beton"
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    make_local_copy(source, tmp_path)
    verify(read_local_copy(source, tmp_path))


def test_damaged_source_is_blamed_and_leaves_no_copy(source, tmp_path):
    changed = {**source.splits, "test": replace(source.splits["test"], sha256="0" * 64)}
    with pytest.raises(ValueError, match="the data set is damaged"):
        make_local_copy(replace(source, splits=changed), tmp_path)
    assert not list(tmp_path.iterdir())


def test_full_disk_is_one_line_and_leaves_no_copy(source, tmp_path, monkeypatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(ValueError, match=r"local_copy: cannot copy .*File too large.*leave"):
            make_local_copy(source, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.setattr(local_copy, "RESERVE", 1 << 60)
    with pytest.raises(ValueError, match=r"GB left, the data set needs 0\.0 GB"):
        make_local_copy(source, tmp_path)
    assert not list(tmp_path.iterdir())
