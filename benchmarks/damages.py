"""Damages to files, for inject.py: each changes one file that was in order."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]
DEEP = 100_000  # brackets
HUGE = 1 << 40  # bytes, none of which is on the disk


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_last_byte(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 2)  # a text ends with a line break


def empty(file: Path) -> None:
    os.truncate(file, 0)


def flip(file: Path) -> None:
    """Turn the highest bit of a byte in the middle; no text is UTF-8 after that."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x80
    file.write_bytes(content)


def flip_first(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[0] ^= 0x80
    file.write_bytes(content)


def fill_with_noise(file: Path) -> None:
    """Same size, other content."""
    file.write_bytes(os.urandom(file.stat().st_size))


def fill_with_zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def grow(file: Path) -> None:
    os.truncate(file, HUGE)


def remove(file: Path) -> None:
    file.unlink()


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def make_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link_to(target: str) -> Damage:
    def link(file: Path) -> None:
        file.unlink()
        file.symlink_to(target)

    return link


def nest(file: Path) -> None:
    file.write_text("[" * DEEP)


def nest_objects(file: Path) -> None:
    file.write_text('{"a":' * DEEP)


def another_ones(file: Path) -> None:
    """A file that is in order, and something else."""
    shutil.copyfile(__file__, file)


FILES: dict[str, Damage] = {
    "truncated": truncate,
    "two bytes short": cut_last_byte,
    "empty": empty,
    "flipped": flip,
    "flipped first": flip_first,
    "noise": fill_with_noise,
    "zeros": fill_with_zeros,
    "huge": grow,
    "missing": remove,
    "a folder": make_folder,
    "FIFO": make_fifo,
    "device": link_to("/dev/zero"),
    "dangling link": link_to("nowhere"),
    "link to itself": link_to("loop"),
    "another's": another_ones,
}
NESTED: dict[str, Damage] = {"nested": nest, "nested objects": nest_objects}


def places(content: Any, depth: int = 5, place: tuple = ()) -> Iterator[tuple]:
    """Every place in a JSON value down to a depth; of a list its first and last entry."""
    if place:
        yield place
    if depth == 0:
        return
    if isinstance(content, dict):
        for key in content:
            yield from places(content[key], depth - 1, (*place, key))
    elif isinstance(content, list):
        for index in sorted({0, len(content) - 1}) if content else ():
            yield from places(content[index], depth - 1, (*place, index))


def put(file: Path, place: tuple, value: Any) -> None:
    """Replace the value at a place; ``...`` takes it out."""
    content = json.loads(file.read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    file.write_text(json.dumps(content))


def at(content: Any, place: tuple) -> Any:
    for key in place:
        content = content[key]
    return content


def repeat_key(file: Path) -> None:
    """Give the first key of the file twice, the second time with another value."""
    content = json.loads(file.read_text())
    first = next(iter(content))
    file.write_text(file.read_text().rstrip()[:-1] + f", {json.dumps(first)}: []}}")


def json_damages(file: Path) -> dict[str, list[Damage]]:
    """By kind: what can be wrong within a JSON file that is well formed."""
    content = json.loads(file.read_text())
    found: dict[str, list[Damage]] = {"wrong type": [], "not finite": [], "key missing": []}
    if isinstance(content, dict):
        found["key twice"] = [repeat_key]

    def putting(place: tuple, value: Any) -> Damage:
        return lambda damaged: put(damaged, place, value)

    for place in places(content):
        value = at(content, place)
        others: dict[type, Any] = {dict: 7, list: "wrong", str: ["wrong"]}
        wrong = others.get(type(value), {"wrong": "wrong"})
        found["wrong type"].append(putting(place, copy.deepcopy(wrong)))
        if isinstance(value, float | int) and not isinstance(value, bool):
            found["not finite"] += [putting(place, float("nan")), putting(place, float("inf"))]
        if isinstance(place[-1], str):
            found["key missing"].append(putting(place, ...))
    return found
