"""Kept memory, counted by the page faults of a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Blocks of 40 MiB, written to; the first few find their places.
FAULTS = """
import resource, sys, torch
from hdkd_dist.distributed.allocation import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(3)
torch.set_num_threads(1)
for turn in range(28):
    if turn == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    ones = torch.zeros(40 << 20, dtype=torch.uint8) + 1
    del ones
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Page faults of eight allocations."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=60
    )
    if done.returncode == 3:
        pytest.skip("not glibc")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    """Large blocks come back without page faults; otherwise each one faults anew."""
    assert faults("as usual") > 100  # two or more per block even where pages are huge
    assert faults("kept") < 20
