"""Read a command line by what a function declares: its types, its defaults, its docstring.

python-fire by itself guesses a value's type from its spelling (``--out 1e5`` is a number) and takes
a flag without a value for True. Here the declared type decides.
"""

from __future__ import annotations

import inspect
import math
import re
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from fire import docstrings

from hdkd_dist.data.paths import settled
from hdkd_dist.spelling import SETTINGS, did_you_mean

HELP = {"-h", "--help"}
WIDTH = 100  # columns of the help


def read_text(text: str) -> str:
    """Take a word as it is.

    Raises:
        ValueError: for an empty one.
    """
    if not text:
        raise ValueError("must not be empty")
    return text


def read_whole(text: str) -> int:
    """Read a whole number in decimal digits.

    Raises:
        ValueError: for anything else.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,99}", text):
        raise ValueError(f"must be a whole number, not {text!r}")
    return int(text)


def read_number(text: str) -> float:
    """Read a number that is finite.

    Raises:
        ValueError: for anything else.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"must be a number, not {text!r}")
    return number


def read_switch(text: str) -> bool:
    """Read true or false, in any case.

    Raises:
        ValueError: for anything else.
    """
    known = {"true": True, "false": False}
    if text.lower() not in known:
        raise ValueError(f"must be true or false, not {text!r}")
    return known[text.lower()]


def read_path(text: str) -> Path:
    """Read a path, and follow it where it is a link.

    Raises:
        ValueError: for an empty one, and a link to nothing.
    """
    try:
        return settled(text)
    except ValueError as error:
        raise ValueError(f"cannot be used: {error}") from None


@dataclass(frozen=True)
class Kind:
    """Describe a type that flags may have.

    Attributes:
        read: makes a value of a word; its ``ValueError`` goes on from the flag's name.
        shown: what stands for a value in the help.
    """

    read: Callable[[str], Any]
    shown: str


KINDS: dict[type, Kind] = {
    str: Kind(read_text, "TEXT"),
    int: Kind(read_whole, "N"),
    float: Kind(read_number, "X"),
    bool: Kind(read_switch, "true|false"),
    Path: Kind(read_path, "PATH"),
}


@dataclass(frozen=True)
class Flag:
    """Describe one flag.

    Attributes:
        name: the parameter's.
        type: a key of ``KINDS``; of each word where there are several.
        several: whether it takes several words and may be repeated.
        default: ``inspect.Parameter.empty`` where it must be given.
        purpose: from the docstring.
    """

    name: str
    type: type
    several: bool
    default: Any
    purpose: str

    @property
    def needed(self) -> bool:
        """Tell whether it must be given."""
        return self.default is inspect.Parameter.empty

    def value(self, words: Sequence[str]) -> Any:
        """Read the words that were given for it.

        Raises:
            ValueError: naming the flag.
        """
        try:
            values = [KINDS[self.type].read(word) for word in words]
        except ValueError as error:
            raise ValueError(f"--{self.name} {error}") from None
        return values if self.several else values[0]

    def help_lines(self, margin: int) -> list[str]:
        """Return its entry in the help, the purpose beginning after ``margin`` columns."""
        default = "" if self.default in ((), "") or self.default is None else str(self.default)
        if self.type is bool:
            default = default.lower()
        note = " (needed)" if self.needed else f" (default {default})" if default else ""
        text = textwrap.wrap((self.purpose.rstrip(".") + note).strip(), WIDTH - margin) or [""]
        first = f"{self.usage():<{margin}}{text[0]}".rstrip()
        return [first, *(" " * margin + line for line in text[1:])]

    def usage(self) -> str:
        """Show the flag with what it takes."""
        return f"  --{self.name} {KINDS[self.type].shown}{' …' if self.several else ''}"


def flags_of(main: Callable[..., None]) -> dict[str, Flag]:
    """Return a function's flags by name: the types from its signature, the rest from its docstring.

    A parameter that may be None has the type that it has otherwise; a ``Sequence[T]`` takes several
    words.
    """
    document = docstrings.parse(inspect.getdoc(main) or "")
    purposes = {entry.name: entry.description for entry in document.args or ()}
    hints = typing.get_type_hints(main)
    flags = {}
    for name, parameter in inspect.signature(main).parameters.items():
        kind = hints[name]
        if NoneType in typing.get_args(kind):
            (kind,) = set(typing.get_args(kind)) - {NoneType}
        several = typing.get_origin(kind) is not None
        if several:
            (kind,) = typing.get_args(kind)
        flags[name] = Flag(name, kind, several, parameter.default, purposes.get(name) or "")
    return flags


def help_page(main: Callable[..., None], program: str) -> str:
    """Describe a function's command line."""
    document = docstrings.parse(inspect.getdoc(main) or "")
    flags = list(flags_of(main).values())
    needed = "".join(f" {flag.usage().strip()}" for flag in flags if flag.needed)
    margin = 2 + max([len(flag.usage()) for flag in flags if len(flag.usage()) < 30], default=0)
    about = [document.summary or "", *(document.description or "").split("\n\n")]
    paragraphs = [textwrap.fill(" ".join(text.split()), WIDTH) for text in about if text]
    lines = [line for flag in flags for line in flag.help_lines(margin)]
    return "\n".join([f"usage: {program}{needed} [flags]", "", *paragraphs, "", *lines])


def read_flags(words: Sequence[str], flags: Mapping[str, Flag], program: str) -> dict[str, Any]:
    """Read a command line; ``--name value``, ``--name=value`` and, for a switch, ``--name``.

    Raises:
        ValueError: for the first word that does not belong there, and for what is missing.
    """
    given: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        written, equals, value = rest.pop(0).partition("=")
        flag = known_flag(written, flags, program)
        values = [value] if equals else []
        while rest and not rest[0].startswith("--") and (flag.several or not values):
            values.append(rest.pop(0))
        if not values and flag.type is bool:
            values = ["true"]
        if not values:
            raise ValueError(f"{written} needs a value")
        if flag.name in given and not flag.several:
            raise ValueError(f"{written} is given twice: {given[flag.name][0]} and {values[0]}")
        given.setdefault(flag.name, []).extend(values)
    for flag in flags.values():
        if flag.needed and flag.name not in given:
            raise ValueError(f"--{flag.name} is needed: {flag.purpose} {program} --help shows all")
    return {name: flags[name].value(values) for name, values in given.items()}


def known_flag(written: str, flags: Mapping[str, Flag], program: str) -> Flag:
    """Return the flag that a word such as ``--per-class`` names.

    Raises:
        ValueError: if it names none.
    """
    if not written.startswith("--"):
        raise ValueError(
            f"{written!r} belongs to no flag: write --flag value, and put a value with spaces in "
            f"quotes; {program} --help shows the flags"
        )
    name = written[2:].replace("-", "_")
    if name in flags:
        return flags[name]
    known = [f"--{flag}" for flag in (*flags, "help", "version")]
    hint = did_you_mean(written, known)
    if not hint and "set" in flags and (meant := did_you_mean(written, SETTINGS)):
        hint = f"{meant} Settings are given by --set NAME=VALUE"
    raise ValueError(f"{written} is no flag of {program}{hint or '; --help shows them'}")
