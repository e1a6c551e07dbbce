import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from image_files import CLASSES, make_source, picture, prepare, save

from hdkd_dist.data.manifest import verify
from hdkd_dist.data.staging import prefix

REPOSITORY = Path(__file__).parents[2]


def start(source, out, mode="raw"):
    """Start the script itself and wait until it is in the middle of writing."""
    command = [
        *(sys.executable, "data_prep/imagefolder.py", "--source", source, "--out", out),
        *("--metaval_per_class", "2", "--workers", "2", "--write_mode", mode),
    ]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    child = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    path = out.parent / f"{prefix(out)}{child.pid}" / "train.beton"
    deadline = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size > 4 << 20):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.002)
    return child, path.parent


@pytest.fixture
def long_source(tmp_path):
    """Small files that take long to write: the same large picture many times."""
    source = make_source(tmp_path / "long")
    save(tmp_path / "large.jpg", picture(5, (500, 500)))
    for name in CLASSES:
        for i in range(200):
            os.link(tmp_path / "large.jpg", source / "train" / name / f"large_{i}.jpg")
    return source


def test_the_script_killed_by_sigkill_leaves_no_half_data_set(tmp_path, long_source, run_script):
    out = tmp_path / "out"
    child, folder = start(long_source, out)
    child.kill()
    child.wait()
    assert folder.exists()
    assert not out.exists()
    manifest, _, _ = prepare(run_script, long_source, out)
    verify(manifest)
    assert not list(tmp_path.glob(".out*"))


def test_the_script_ended_by_sigterm_cleans_up(tmp_path, long_source):
    out = tmp_path / "out"
    child, folder = start(long_source, out)
    os.killpg(child.pid, signal.SIGTERM)  # as a batch system does: the workers get it too
    assert child.wait(20) == 143
    assert not folder.exists()
    assert not list(tmp_path.glob(".out*"))
    assert not out.exists()
