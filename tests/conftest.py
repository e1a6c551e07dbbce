"""Shared by all tests: one thread per process, so that results do not depend on the machine."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the processes that tests start
os.environ.setdefault("WANDB_MODE", "offline")
# With TBB numba may wait for ever at the end of a process that has forked, as torch's loader does.
os.environ.setdefault("NUMBA_THREADING_LAYER", "omp")
# Tests are about the code, to the bit, on any machine: also on one with GPUs.
os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# What tests find out about their data is not for the user's cache.
os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache/matplotlib"))  # its list of fonts
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="hdkd-tests-")

import pytest
import torch

torch.set_num_threads(1)

TESTS = Path(__file__).parent
# What takes longest, in that order: begun last, one of them would keep one core busy to the end.
COSTLY = ("test_interrupted.py", "test_train.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the costly files come first; each file's tests stay together, in their order."""

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(TESTS).as_posix()
        return COSTLY.index(name) if name in COSTLY else len(COSTLY)

    items.sort(key=place)


@pytest.fixture
def fresh_wandb():
    """W&B keeps the environment of its first use in a process; here it reads it again."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()
