"""Which device a rank takes: by what launchers leave in the environment, without any GPU."""

from __future__ import annotations

import os

import pytest
import torch

from hdkd_dist.distributed.devices import (
    describe_device,
    device_index,
    device_line,
    named_by_local_rank,
    refuse_unusable_gpus,
    set_rounding,
)


@pytest.mark.parametrize(
    ("environment", "sign"),
    [
        ({"SLURM_JOB_GPUS": "0,1"}, "SLURM_JOB_GPUS=0,1"),
        ({"SLURM_STEP_GPUS": "3"}, "SLURM_STEP_GPUS=3"),
        ({}, "nvidia0"),
    ],
)
def test_gpus_that_torch_cannot_use_are_refused_in_one_line(tmp_path, environment, sign):
    if not environment:
        (tmp_path / "nvidia0").touch()
    with pytest.raises(ValueError, match=sign) as fault:
        refuse_unusable_gpus(environment, usable=False, dev=tmp_path)
    assert "\n" not in str(fault.value)
    assert "DS_ACCELERATOR=cpu" in str(fault.value)
    refuse_unusable_gpus(environment, usable=True, dev=tmp_path)


@pytest.mark.parametrize(
    "environment",
    [
        {"DS_ACCELERATOR": "cpu", "SLURM_JOB_GPUS": "0"},
        {"CUDA_VISIBLE_DEVICES": ""},
    ],
)
def test_who_asks_for_a_cpu_gets_it(tmp_path, environment):
    (tmp_path / "nvidia0").touch()
    refuse_unusable_gpus(environment, usable=False, dev=tmp_path)


def test_machine_without_gpus_trains_on_its_cpu(tmp_path):
    (tmp_path / "nvidiactl").touch()  # containers have it without any GPU
    refuse_unusable_gpus({}, usable=False, dev=tmp_path)
    launched = {"CUDA_VISIBLE_DEVICES": "0"}  # as DeepSpeed's launcher sets it on any machine
    refuse_unusable_gpus(launched, usable=False, dev=tmp_path)


def test_rank_takes_its_own_device_or_the_only_one():
    assert [device_index(rank, 4) for rank in range(4)] == [0, 1, 2, 3]
    assert [device_index(rank, 1) for rank in range(4)] == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="local rank 2 has no device of its own: 2 are visible"):
        device_index(2, 2)


def test_local_rank_is_given_back(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    with named_by_local_rank(0):
        assert os.environ["LOCAL_RANK"] == "0"
    assert os.environ["LOCAL_RANK"] == "3"
    monkeypatch.delenv("LOCAL_RANK")
    with named_by_local_rank(1):
        assert os.environ["LOCAL_RANK"] == "1"
    assert "LOCAL_RANK" not in os.environ


def test_cpu_is_named():
    found = describe_device(torch.device("cpu"))
    assert found == {"device": "cpu", "threads": 1, "torch": torch.__version__}
    assert device_line(torch.device("cpu")) == "device: cpu, 1 thread(s)"


def test_rounding_is_as_the_settings_have_it(monkeypatch):
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        set_rounding(tf32=False, deterministic=False)
        assert not cudnn.allow_tf32
        assert not torch.are_deterministic_algorithms_enabled()
        set_rounding(tf32=True, deterministic=True)
        assert cudnn.allow_tf32
        assert cudnn.deterministic
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(False)
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
