"""Tensors by name in safetensors files, written as every file of a run is."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hdkd_dist.files.replacing import replacing


def write_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors to a safetensors file, readable by whom the umask lets.

    Raises:
        OSError: if it cannot be written; an old file is as it was.
    """
    with replacing(file) as partial:
        try:
            save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
        except SafetensorError as error:  # it has no class of its own for a full disk
            raise OSError(0, str(error), str(file)) from None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read tensors by name; on the CPU.

    Raises:
        OSError: if the file cannot be read, or is larger than the memory.
        SafetensorError: if it is damaged.
    """
    try:
        return load_file(file)
    except MemoryError:
        raise OSError(errno.ENOMEM, "larger than the memory", str(file)) from None
