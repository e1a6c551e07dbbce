"""JSON as RFC 8259 has it, from files that anyone may have written, and to files that anyone reads.

Python's own reader takes NaN, Infinity and 1e400 for numbers, keeps the last of equal keys, and
waits for ever at a pipe. Nothing is read here but regular files of UTF-8 within limits.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from errno import EINVAL
from typing import Any, BinaryIO

MAX_BYTES = 1 << 26  # 64 MB
MAX_DEPTH = 64  # objects and lists within one another
Place = tuple[object, ...]  # of a value: the keys and positions that lead to it


def open_regular(file: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading, without waiting for anybody to write to it.

    Raises:
        OSError: if it is not there, cannot be read, or is a folder, a pipe, a device or a socket.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(EINVAL, "no regular file", os.fspath(file))
    return os.fdopen(descriptor, "rb")


def read_json(file: str | os.PathLike[str], limit: int = MAX_BYTES) -> Any:
    """Read the JSON value in a file.

    Args:
        file: regular, UTF-8.
        limit: bytes.

    Raises:
        OSError: if it is not there or cannot be read.
        ValueError: saying what is wrong with "it": the caller names the file and how to mend it.
    """
    with open_regular(file) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return parse_json(content)


def read_json_object(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON object in a file; raises as :func:`read_json` does."""
    value = read_json(file)
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


def parse_json(text: str | bytes) -> Any:
    """Parse one JSON value.

    Raises:
        ValueError: for what is no JSON, numbers that are not finite (by their place), keys that are
            there twice, and more than ``MAX_DEPTH`` levels.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        value = json.loads(decoded, object_pairs_hook=_object_of)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    require_finite(value)
    return value


def to_json(value: Any, indent: int | None = None, *, sort_keys: bool = False) -> str:
    """Write a value as JSON, without a line's end.

    Raises:
        ValueError: for a number that is not finite, by its place.
        TypeError: for what JSON cannot hold.
    """
    require_finite(value)
    return json.dumps(value, indent=indent, sort_keys=sort_keys, allow_nan=False)


def require_finite(value: object) -> None:
    """Refuse NaN, the infinities, and more than ``MAX_DEPTH`` levels; ``ValueError`` says where."""
    level: list[tuple[Place, object]] = [((), value)]
    for _ in range(MAX_DEPTH):
        inner: list[tuple[Place, object]] = []
        for place, each in level:
            for name, part in _parts(each):
                if isinstance(part, float) and not math.isfinite(part):
                    where = ".".join(map(str, (*place, name)))
                    raise ValueError(f"{where} is {part}, which is no number")
                if isinstance(part, dict | list | tuple):
                    inner.append(((*place, name), part))
        if not inner:
            break
        level = inner
    else:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"it is {value}, which is no number")


def _parts(value: object) -> Iterable[tuple[object, object]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()


def _object_of(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"the key {counts.most_common(1)[0][0]!r} is there twice")
    return values
