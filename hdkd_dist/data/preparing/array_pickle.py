"""Pickles of numpy arrays, as CIFAR's archives hold them, read without running what they say."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

# What allocates as much as it names, whatever the file holds: none is in an archive of arrays.
UNBOUNDED = ("BYTEARRAY8", "NEXT_BUFFER")


class StoredArray:
    """Stands in for ``numpy.ndarray`` while unpickling: keeps the state, runs nothing."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], StoredType, bool, bytes]) -> None:
        _, self.shape, self.type, _, self.data = state

    def array(self) -> np.ndarray:
        """Return the array; it must be one of bytes."""
        if self.type.code not in ("u1", b"u1", "uint8"):
            raise ValueError(f"pixels of type {self.type.code!r}")
        return np.frombuffer(self.data, np.uint8).reshape(self.shape)


class StoredType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[object, ...]) -> None:
        """Byte order and the like mean nothing for bytes."""


def stored_array(*_: object) -> StoredArray:
    """Stand in for numpy's ``_reconstruct``."""
    return StoredArray()


class ArrayUnpickler(pickle.Unpickler):
    """Knows the three names that pickled numpy arrays need, and no others: it can run no code."""

    ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {  # noqa: RUF012
        ("numpy", "ndarray"): StoredArray,
        ("numpy", "dtype"): StoredType,
        ("numpy.core.multiarray", "_reconstruct"): stored_array,
        ("numpy._core.multiarray", "_reconstruct"): stored_array,
    }

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return the stand-in, or refuse."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name}, which is refused")
        return self.ALLOWED[module, name]


def check_memory(data: bytes) -> None:
    """Raise ``UnpicklingError`` for a pickle that takes more memory than it has bytes.

    Unpickling keeps a table as long as the largest number in it: 200 bytes could take 8 GB.
    """
    for operation, argument, _ in pickletools.genops(data):
        numbered = "PUT" in operation.name and isinstance(argument, int) and argument > len(data)
        if numbered or operation.name in UNBOUNDED:
            raise pickle.UnpicklingError(f"it asks for memory that it does not fill ({argument})")


def unpickle_arrays(data: bytes) -> dict[bytes, Any]:
    """Return the dictionary that ``data`` holds; its arrays are ``StoredArray``.

    Raises:
        Exception: nearly any, for malformed or hostile pickles.
    """
    check_memory(data)
    # Python 2 wrote the official files; its strings come back as bytes.
    content = ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    if not isinstance(content, dict):
        raise TypeError("it holds no dictionary")
    return content
