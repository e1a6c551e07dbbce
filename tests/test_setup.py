"""The set-up's look at torch and the GPU; there is none here, a program answers for its driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

CHECK = Path(__file__).parents[1] / "setup/check_torch.sh"
RELEASE = torch.__version__.partition("+")[0]
DRIVER = """#!/bin/sh
case $1 in
    --query*) echo 'NVIDIA A100-SXM4-80GB, 550.54.15' ;;
    *) echo '| CUDA Version: 12.4  |' ;;
esac
"""


def check(folder, driver=None):
    """The check with this environment's torch, where a driver answers or none is installed."""
    if driver is not None:
        program = folder / "nvidia-smi"
        program.write_text(driver)
        program.chmod(0o755)
    path = os.pathsep.join([str(folder), "/usr/bin", "/bin"])
    environment = {**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": ""}
    words = ["bash", str(CHECK), sys.executable]
    return subprocess.run(words, capture_output=True, text=True, env=environment)


def test_login_node_is_told_how_to_prepare_for_gpus(tmp_path):
    done = check(tmp_path, driver="#!/bin/sh\nexit 9\n")
    assert done.returncode == 0, done.stderr
    hint = f"is for CPUs; to prepare for machines with GPUs: make setup TORCH='torch=={RELEASE}'"
    assert (hint in done.stdout) == (torch.version.cuda is None)  # a build for GPUs needs no word


def test_gpu_that_torch_cannot_use_ends_the_set_up(tmp_path):
    done = check(tmp_path, DRIVER)
    assert done.returncode == 1
    assert "cannot use the GPU here (NVIDIA A100-SXM4-80GB, 550.54.15)" in done.stderr
    assert "the driver takes 12.4 and older" in done.stderr
    assert f"make setup TORCH='torch=={RELEASE}+cu126 --extra-index-url https://" in done.stderr
