import contextlib
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from noise_data import SPLITS, Broken, prepare

from hdkd_dist.data.manifest import verify
from hdkd_dist.data.staging import exit_on_signals, prefix


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_cannot_be_encoded_is_named(tmp_path, workers):
    def fail():
        raise RuntimeError("moth in the relay")

    splits = SPLITS | {"train": Broken(fail, after=37)}
    message = "cannot encode image 37 of the train split: moth in the relay"
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "out", splits=splits, workers=workers)
    assert not list(tmp_path.iterdir())


def test_a_killed_worker_is_an_error_not_a_hang(tmp_path):
    splits = SPLITS | {"train": Broken(lambda: os.kill(os.getpid(), signal.SIGKILL), after=100)}
    with pytest.raises(ValueError, match=r"worker process died.*fewer --workers"):
        prepare(tmp_path / "out", splits=splits, workers=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, workers):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, hard))  # bytes per file
    try:
        with pytest.raises(ValueError, match=r"cannot write .*train.beton: .*free some space"):
            prepare(tmp_path / "out", workers=workers)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def children(pid):
    """The processes below ``pid`` that are not dead yet."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.add(int(path.parent.name))
    return found


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def prepare_slowly(out, workers):
    exit_on_signals()
    prepare(out, splits=SPLITS | {"test": Broken(lambda: time.sleep(0.05))}, workers=workers)


def start_and_wait_for_the_middle(out, workers):
    """Start a process that prepares ``out`` and is writing its last split."""
    child = multiprocessing.get_context("fork").Process(target=prepare_slowly, args=(out, workers))
    child.start()
    folder = out.parent / f"{prefix(out)}{child.pid}"
    deadline = time.monotonic() + 60
    expected = workers if workers > 1 else 0
    while not ((folder / "test.beton").exists() and len(children(child.pid)) >= expected):
        assert time.monotonic() < deadline
        assert child.is_alive()
        time.sleep(0.01)
    return child, folder


@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_leaves_no_half_data_set(tmp_path, workers):
    out = tmp_path / "out"
    child, folder = start_and_wait_for_the_middle(out, workers)
    helpers = children(child.pid)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert folder.exists()
    assert not out.exists()
    other = tmp_path / ".out.partial-another-host-1"
    other.mkdir()
    verify(prepare(out))
    assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}
    deadline = time.monotonic() + 60
    while any(map(is_running, helpers)):  # they would wait for their dead parent's jobs for ever
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_remove_the_half_data_set(tmp_path, number, status, workers):
    child, _ = start_and_wait_for_the_middle(tmp_path / "out", workers)
    os.kill(child.pid, number)
    child.join(60)
    assert child.exitcode == status
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_living_process_is_not_removed(tmp_path):
    out = tmp_path / "out"
    child, folder = start_and_wait_for_the_middle(out, workers=1)
    prepare(out)
    assert child.is_alive()
    assert folder.exists()
    child.kill()
    child.join()
