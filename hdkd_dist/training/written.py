"""Files that are on the disk when the call returns, with the sha256 of what was written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from hdkd_dist.training.checkpoint import Written


class Hashing:
    """A binary file that keeps the sha256 of all that is written to it, in order."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.failure: OSError | None = None  # torch's writer replaces it by an error of its own

    def write(self, data: Any) -> int:
        """Write all of ``data``."""
        self._sha256.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.failure = error
            raise
        size = memoryview(data).nbytes
        self.size += size
        return size

    def flush(self) -> None:
        """Hand everything over to the system."""
        self._file.flush()

    @property
    def written(self) -> Written:
        """What has been written so far."""
        return Written(self.size, self._sha256.hexdigest())


def write_checked(content: Any, path: Path) -> Written:
    """``torch.save`` to a file that has reached the disk afterwards.

    Raises:
        OSError: if it cannot be written.
    """
    with path.open("wb") as file:
        hashing = Hashing(file)
        try:
            torch.save(content, hashing)
        except RuntimeError:
            if hashing.failure is not None:
                raise hashing.failure from None
            raise
        file.flush()
        os.fsync(file.fileno())
    return hashing.written
