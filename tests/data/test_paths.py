"""What a path stands for is settled before it is used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hdkd_dist.data.paths import check_folder, check_writable, own_folder, settled


def test_a_link_is_followed_and_other_paths_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("disk").mkdir()
    Path("link").symlink_to("disk")
    assert settled("link") == tmp_path / "disk"
    assert settled("disk") == Path("disk")
    assert settled("nothing/yet") == Path("nothing/yet")


@pytest.mark.parametrize("target", ["nowhere", "loop"])
def test_a_link_to_nothing_is_refused(tmp_path, target):
    (tmp_path / "loop").symlink_to(target)
    with pytest.raises(ValueError, match=rf"loop is a link to {target}, which is not there"):
        settled(tmp_path / "loop")


def test_names_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="an empty path"):
        settled("")
    with pytest.raises(ValueError, match="cannot be used: File name too long"):
        settled("x" * 300)


@pytest.mark.parametrize("name", [".", "..", "/", "../run"])
def test_a_folder_of_its_own_holds_not_the_current_one(tmp_path, monkeypatch, name):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(ValueError, match="is the folder you are in, or holds it"):
        own_folder(name)
    assert own_folder("../other") == Path("../other")


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path):
    check_writable(tmp_path / "a/b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for name in ("file", "file/run"):
        with pytest.raises(ValueError, match=r"cannot write to .*: .*/file is no folder"):
            check_writable(tmp_path / name)


def test_what_is_no_folder_and_cannot_become_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for good in (".", "a", "a/b"):
        check_folder("--data", tmp_path / good)
    for bad, place in (("file", "file"), ("file/x", "file"), ("pipe", "pipe")):
        with pytest.raises(ValueError, match=f"--data .*{bad} cannot be used: .*{place} is no fol"):
            check_folder("--data", tmp_path / bad)
