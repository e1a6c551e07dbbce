"""The parts of benchmarks/gpu.py that can fail: ``pytest -m gpu`` on a machine that has one.

Elsewhere they are left out by name; ``benchmarks/gpu.py --rehearse`` runs them on a CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.gpu
@pytest.mark.parametrize("part", ["agree", "no_sync", "graphs", "stream", "two_ranks", "resume"])
def test_part(part):
    environment = {k: v for k, v in os.environ.items() if k != "DS_ACCELERATOR"}
    if not environment.get("CUDA_VISIBLE_DEVICES"):
        environment.pop("CUDA_VISIBLE_DEVICES", None)  # hidden by conftest.py from other tests
    words = [sys.executable, str(ROOT / "benchmarks/gpu_parts.py"), "--part", part]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
