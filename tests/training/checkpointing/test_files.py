"""Checkpoints on the disk: complete or not there, damage found and named, old ones removed."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hdkd_dist.runs.folder import checkpoints_in
from hdkd_dist.training.checkpointing import files
from hdkd_dist.training.checkpointing.files import (
    Checkpoint,
    Damaged,
    Unreadable,
    read_checkpoint,
    verify_checkpoint,
    write_checked,
)
from hdkd_dist.training.checkpointing.resume import newest


def write(checkpoints, step, validation=None):
    """A checkpoint of two files, as a saver writes one."""
    folder = checkpoints / files.name_of(step, validation is not None)
    files.start_writing(folder)
    partial = files.partial_of(folder)
    listed = {
        name: write_checked({"values": torch.randn(1000), "step": step}, partial / name)
        for name in ("model.pt", "rank_00000.pt")
    }
    written = Checkpoint(folder, step, 0, 1, validation, {"a": 1}, {"train": "abc"}, listed)
    files.complete(written)
    return written


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_is_read_and_latest_names_it(tmp_path):
    write(tmp_path, 5)
    written = write(tmp_path, 12)
    found = read_checkpoint(tmp_path / "step-00000012")
    assert found == written
    verify_checkpoint(found)
    assert torch.load(found.folder / "model.pt")["step"] == 12
    assert (tmp_path / "latest").read_text() == "step-00000012"
    assert newest(tmp_path) == written


def test_evaluated_checkpoint_comes_after_the_one_of_the_same_step(tmp_path):
    for step, validation in ((100_000_000, 50.0), (17, 40.0), (17, None)):
        write(tmp_path, step, validation)
    found = [path.name for path in checkpoints_in(tmp_path)]
    assert found == ["step-00000017", "step-00000017-evaluated", "step-100000000-evaluated"]


def test_copy_under_the_name_of_a_later_step_is_not_taken_for_it(tmp_path, capsys):
    """It would be the newest for ever, and each new checkpoint would be rotated away."""
    written = write(tmp_path, 5)
    shutil.copytree(written.folder, tmp_path / "step-00000900")
    assert newest(tmp_path) == written
    assert "step-00000900 is damaged: it is a copy of step 5" in capsys.readouterr().out
    elsewhere = shutil.copytree(written.folder, tmp_path / "kept")
    assert read_checkpoint(elsewhere).step == 5


@pytest.mark.parametrize("seed", range(12))
def test_damage_at_random_places_is_named_and_the_one_before_is_used(tmp_path, capsys, seed):
    chance = random.Random(seed)
    before, last = write(tmp_path, 1), write(tmp_path, 2)
    file = last.folder / chance.choice(["model.pt", "rank_00000.pt", "checkpoint.json"])
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content))
    if seed % 2:
        del content[place:]
    else:
        content[place] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    assert newest(tmp_path) == before
    said = capsys.readouterr().out
    assert f"step-00000002 is damaged: {file.name} " in said
    assert said.count("\n") == 1
    assert "step-00000002.aside-1" in names(tmp_path)  # nothing is thrown away


def test_missing_file_and_no_usable_checkpoint(tmp_path):
    (write(tmp_path, 1).folder / "rank_00000.pt").unlink()
    with pytest.raises(Damaged, match=r"rank_00000.pt cannot be read \(No such file"):
        verify_checkpoint(read_checkpoint(tmp_path / "step-00000001"))
    with pytest.raises(Damaged, match=r"no checkpoint is left .*step-00000001 is damaged"):
        newest(tmp_path)
    assert "step-00000001" in names(tmp_path)  # where it was


@pytest.mark.parametrize("file", ["model.pt", "checkpoint.json"])
def test_file_system_that_fails_is_no_damage(tmp_path, file):
    write(tmp_path, 1)
    failing = write(tmp_path, 2).folder / file
    failing.unlink()
    failing.symlink_to(failing)  # the system refuses to follow it
    with pytest.raises(Unreadable, match=rf"{file} cannot be read at present \(Too many levels"):
        newest(tmp_path)
    assert {"step-00000001", "step-00000002"} <= set(names(tmp_path))


def test_last_ones_and_the_best_are_kept(tmp_path):
    for step, validation in enumerate([None, 40.0, None, 60.0, 55.0, None, None], start=1):
        write(tmp_path, step, validation)
        files.rotate(tmp_path, keep=2, step=99)
    best = "step-00000004-evaluated"
    assert names(tmp_path) == ["best", "latest", best, "step-00000006", "step-00000007"]
    assert (tmp_path / "best").read_text() == best


def test_checkpoints_beyond_the_present_step_do_not_count(tmp_path):
    for step in (90, 100, 110):  # of an earlier run
        write(tmp_path, step, 99.0)
    for step in (1, 2, 3):
        write(tmp_path, step, float(step))
        files.rotate(tmp_path, keep=2, step=step)
    found = [path.name for path in checkpoints_in(tmp_path) if "-evaluated" in path.name]
    assert found == [f"step-{step:08d}-evaluated" for step in (2, 3, 90, 100, 110)]
    assert (tmp_path / "best").read_text() == "step-00000003-evaluated"


ADDED = ["rank_00001.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt"]


@pytest.mark.parametrize("name", ADDED)
def test_file_that_is_not_listed_would_be_unpickled_and_is_refused(tmp_path, name):
    checkpoint = write(tmp_path, 1)
    (checkpoint.folder / "notes.txt").write_text("nobody unpickles these")
    verify_checkpoint(checkpoint)
    torch.save({}, checkpoint.folder / name)
    with pytest.raises(Damaged, match=rf"checkpoint\.json does not list {name}"):
        verify_checkpoint(checkpoint)


@pytest.mark.parametrize("step", [1, 9])
def test_checkpoint_under_another_steps_name_is_refused(tmp_path, step):
    folder = write(tmp_path, 4).folder
    folder.rename(tmp_path / files.name_of(step, False))
    with pytest.raises(Damaged, match="it is a copy of step 4"):
        read_checkpoint(tmp_path / files.name_of(step, False))


def test_no_file_of_a_checkpoint_lies_elsewhere(tmp_path):
    written = write(tmp_path, 1)
    files.start_writing(tmp_path / "step-00000002")
    listed = {"../step-00000001/model.pt": written.files["model.pt"]}
    files.complete(replace(written, folder=tmp_path / "step-00000002", step=2, files=listed))
    with pytest.raises(Damaged, match=r"lists '\.\./.*', which lies elsewhere"):
        read_checkpoint(tmp_path / "step-00000002")


def test_killed_save_is_never_seen_and_is_cleaned_up(tmp_path):
    complete = write(tmp_path, 1)
    folder = tmp_path / files.name_of(2, False)
    files.start_writing(folder)
    write_checked([1, 2], files.partial_of(folder) / "model.pt")
    assert newest(tmp_path) == complete
    write(tmp_path, 3)
    assert names(tmp_path) == ["latest", "step-00000001", "step-00000003"]


@contextlib.contextmanager
def limited_files(size):
    """No file may become larger: the write then fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_an_error_and_leaves_the_earlier_ones(tmp_path):
    complete = write(tmp_path, 1)
    with limited_files(2000), pytest.raises((OSError, RuntimeError)):
        write(tmp_path, 2)
    assert newest(tmp_path) == complete
    write(tmp_path, 3)


@contextlib.contextmanager
def without_privileges():
    """As root nothing is read-only: be nobody for a while."""
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(65534)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)


def test_read_only_folder_is_refused_in_one_line():
    from hdkd_dist.runs.folder import hold

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        folder.mkdir()
        Path(name).chmod(0o755)
        folder.chmod(0o555)
        with without_privileges(), pytest.raises(ValueError, match="cannot write the run to"):
            hold(folder)
        folder.chmod(0o755)


def test_folder_has_one_owner_at_a_time(tmp_path):
    from hdkd_dist.runs.folder import hold

    first = hold(tmp_path)
    with pytest.raises(ValueError, match="is being trained by another process"):
        hold(tmp_path)
    first.close()
    hold(tmp_path).close()
