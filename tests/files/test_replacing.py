"""Files are replaced as a whole or not at all, and never through a link."""

from __future__ import annotations

import os
import resource
import stat

import pytest
import torch
from safetensors.torch import load_file

from hdkd_dist.files import replacing as module
from hdkd_dist.files.replacing import replace_file, replacing
from hdkd_dist.files.tensors import write_tensors
from hdkd_dist.runs.folder import hold
from hdkd_dist.training.tracking import open_for_appending


def write_picture(file):
    with replacing(file) as partial:
        partial.write_bytes(b"a picture")


def write_zeros(file):
    write_tensors({"a": torch.zeros(1000)}, file)


WRITERS = {
    "text": lambda file: replace_file(file, "new"),
    "picture": write_picture,
    "tensors": write_zeros,
}


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "results.json"
    replace_file(file, "first")
    replace_file(file, "second")
    assert file.read_text() == "second"

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        replace_file(file, "third")
    assert file.read_text() == "second"
    assert os.listdir(tmp_path) == ["results.json"]


@pytest.mark.parametrize("write", WRITERS)
def test_no_link_is_followed(tmp_path, write):
    victim, folder = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    folder.mkdir()
    for name in ("results.json", ".results.json.partial", "results.partial"):
        (folder / name).symlink_to(victim)
    (folder / "dangling").symlink_to(tmp_path / "made")
    for name in ("results.json", "dangling"):
        WRITERS[write](folder / name)
        assert not (folder / name).is_symlink()
    assert victim.read_text() == "precious"
    assert not (tmp_path / "made").exists()


def test_nor_by_what_is_appended_to_or_locked(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name, write in (("metrics.jsonl", open_for_appending), (".lock", lambda f: hold(f.parent))):
        (tmp_path / name).symlink_to(victim)
        with pytest.raises((OSError, ValueError), match="Too many levels of symbolic links"):
            write(tmp_path / name)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_umask_says_who_may_read(tmp_path, write, umask):
    before = os.umask(umask)
    try:
        WRITERS[write](tmp_path / "file")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("write", WRITERS)
def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, write):
    file = tmp_path / "model.safetensors"
    file.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            WRITERS[write](file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_tensors_are_read_back(tmp_path):
    values = {"a": torch.arange(6).view(2, 3).T, "b": torch.tensor(1.5)}
    write_tensors(values, tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in values.items())
