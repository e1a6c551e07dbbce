"""Which device a rank computes on, and how exactly that device rounds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

# What Slurm leaves where a job has GPUs. CUDA_VISIBLE_DEVICES is no sign of them: DeepSpeed's
# launcher sets it on a machine without any, too.
GPU_VARIABLES = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
NO_DEVICES = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES that hide all


def refuse_unusable_gpus(environment: Mapping[str, str], usable: bool, dev: Path) -> None:
    """Make sure that a run meant for GPUs does not train on CPUs unnoticed.

    Args:
        environment: of this process; ``DS_ACCELERATOR=cpu`` and an empty ``CUDA_VISIBLE_DEVICES``
            ask for a CPU.
        usable: whether torch can compute on an accelerator.
        dev: the folder of device files.

    Raises:
        ValueError: where there are GPUs but torch cannot use them.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    asked = environment.get("DS_ACCELERATOR") == "cpu" or visible in NO_DEVICES
    if usable or asked:
        return
    signs = [f"{name}={environment[name]}" for name in GPU_VARIABLES if environment.get(name)]
    signs += [str(file) for file in sorted(dev.glob("nvidia[0-9]*"))[:1]]
    if signs:
        build = torch.version.cuda or "none, a build for CPUs"
        raise ValueError(
            f"this machine has GPUs ({signs[0]}) but torch {torch.__version__} cannot use them "
            f"(its CUDA: {build}): install a torch for GPUs that the driver supports (make setup "
            f"TORCH=torch==…), or set DS_ACCELERATOR=cpu to train on CPUs"
        )


def check_gpus() -> None:
    """Apply :func:`refuse_unusable_gpus` to this process."""
    refuse_unusable_gpus(os.environ, torch.accelerator.is_available(), Path("/dev"))


def device_index(local_rank: int, visible: int) -> int:
    """Choose a rank's device among the visible ones.

    A launcher shows all devices of a node to each rank, or only the rank's own
    (``--gpus-per-task``, ``--gpu-bind``), which then has the number 0.

    Args:
        local_rank: the rank on its node.
        visible: how many devices this process sees.

    Raises:
        ValueError: if there are several, and fewer than ranks.
    """
    if visible == 1:
        return 0
    if local_rank >= visible:
        raise ValueError(
            f"local rank {local_rank} has no device of its own: {visible} are visible; start as "
            "many ranks per node as it has devices, or show each rank its own device only"
        )
    return local_rank


@contextmanager
def named_by_local_rank(index: int) -> Iterator[None]:
    """Within, LOCAL_RANK is the number of this rank's device, for which DeepSpeed takes it."""
    before = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = str(index)
    try:
        yield
    finally:
        if before is None:
            del os.environ["LOCAL_RANK"]
        else:
            os.environ["LOCAL_RANK"] = before


def describe_device(device: torch.device) -> dict[str, str | int | bool]:
    """Return what ``results.json`` says of the device, and of how it rounds."""
    if device.type == "cpu":
        return {"device": "cpu", "threads": torch.get_num_threads(), "torch": torch.__version__}
    return {
        "device": str(device),
        "name": torch.get_device_module(device).get_device_name(device),
        "torch": torch.__version__,
        "tf32": torch.backends.cudnn.allow_tf32,
        "deterministic": torch.backends.cudnn.deterministic,
    }


def device_line(device: torch.device) -> str:
    """Name a device in words, for the first line of a run."""
    found = describe_device(device)
    if device.type == "cpu":
        return f"device: cpu, {found['threads']} thread(s)"
    return f"device: {found['device']}, {found['name']}"


def set_rounding(tf32: bool, deterministic: bool) -> None:
    """Set how this process's GPU rounds; before its first operation. CPUs are left as they are.

    Args:
        tf32: let convolutions of float32 round their factors to TF32 (10 bits), as torch does by
            default; matrix products are not concerned.
        deterministic: take only algorithms that give the same bits at every run, where torch has
            one; it warns where it has none. cuDNN's and cuBLAS's deterministic ones are slower.
    """
    torch.backends.cudnn.allow_tf32 = tf32
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
