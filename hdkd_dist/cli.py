"""The command line shared by all entry points: python-fire, with errors a user can act on."""

from __future__ import annotations

import functools
import os
import select
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

import fire

TRACEBACK = "HDKD_TRACEBACK"  # environment variable: show where an error comes from


def run(main: Callable[..., None], arguments: Sequence[str] | None = None) -> None:
    """Run ``main`` with the command line's flags as its keyword arguments.

    A ``ValueError`` becomes one line on stderr and exit status 2. Where the reader of stdout has
    left, the program ends with status 1 and without a word. All flags are checked before ``main``
    starts: fire by itself would run it first and complain of a misspelt flag afterwards.

    Args:
        main: the entry point; its signature is the command line, its docstring the help text.
        arguments: the command line without the program's name; default ``sys.argv[1:]``.
    """
    call: dict[str, Callable[[], None]] = {}

    @functools.wraps(main)
    def record(*positional, **flags) -> None:
        call["main"] = functools.partial(main, *positional, **flags)

    words = list(sys.argv[1:] if arguments is None else arguments)
    for flag in list_flags(main):
        words = gather(words, flag)
    fire.Fire(record, command=words, name=os.path.basename(sys.argv[0]))
    if "main" not in call:  # fire printed help
        return
    try:
        call["main"]()
        sys.stdout.flush()
    except ValueError as error:
        if os.environ.get(TRACEBACK):
            raise
        fail(error)
    except BrokenPipeError:
        if not reader_has_left(sys.stdout.fileno()):  # some other pipe: a bug
            raise
        discard_output()
        sys.exit(1)
    except OSError as error:
        if error.filename is not None or not output_fails():
            raise
        discard_output()
        fail(ValueError(f"what is printed cannot be written to stdout ({error.strerror})"))


def output_fails() -> bool:
    """Try whether stdout takes another line's end; it does not where its disk is full."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def discard_output() -> None:
    """Send what is left for stdout nowhere; Python would complain once more when it flushes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def reader_has_left(file: int) -> bool:
    """Tell whether the open ``file`` is a pipe whose reader has left (``... | head``)."""
    watch = select.poll()
    watch.register(file, 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def run_command(commands: Mapping[str, Callable[..., None]]) -> None:
    """Dispatch to the entry point that the first word names; the other words are its flags."""
    name, *words = sys.argv[1:] or [""]
    if name not in commands:
        known = ", ".join(commands)
        given = f", not {name!r}" if name else ""
        fail(ValueError(f"the first word must be one of {known}{given}; each has --help"))
    run(commands[name], words)


def fail(error: ValueError) -> NoReturn:
    """Print ``error`` as one line and exit with status 2.

    What is wrong on all ranks alike is said by the first; an error with ``one_rank`` set is said by
    the rank that has it.
    """
    rank = int(os.environ.get("RANK", 0))
    alone = getattr(error, "one_rank", False)
    if rank == 0 or alone:
        where = f" (rank {rank})" if rank else ""
        print(f"error{where}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(2)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Leave with the right status as soon as the block ends, without Python's own clean-up.

    After a collective, torch's communication threads may still hold tensors; one that lets go of
    them while Python shuts down aborts the process, and a finished run would count as failed.
    """
    status = 0
    try:
        yield
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def switch(flag: str, value: object) -> bool:
    """Read a flag that is true or false; fire knows only the spellings True and False.

    Raises:
        ValueError: for anything else.
    """
    known = {"true": True, "false": False}
    if str(value).lower() not in known:
        raise ValueError(f"{flag} must be true or false, not {value!r}")
    return known[str(value).lower()]


def words(value: object) -> list[str]:
    """Split ``--seeds "0 1"`` or ``--seeds 0,1`` into words, whatever fire has made of them."""
    parts = value if isinstance(value, list | tuple) else str(value).replace(",", " ").split()
    return [str(part) for part in parts]


def list_flags(main: Callable[..., None]) -> list[str]:
    """List the flags of ``main`` that take several words: its sequences of strings."""
    kinds = typing.get_type_hints(main)
    return [f"--{name}" for name, kind in kinds.items() if kind == Sequence[str]]


def gather(words: list[str], flag: str) -> list[str]:
    """Join ``--runs a b`` and ``--set x=1 --set y=2`` into one list-valued flag.

    Of a repeated flag fire would keep the last silently, and of several words the first.
    """
    rest: list[str] = []
    values: list[str] = []
    given = taking = False
    for word in words:
        name, equals, value = word.partition("=")
        if name == flag:
            given = taking = True
            values += [value] if equals else []
        elif taking and not word.startswith("--"):
            values.append(word)
        else:
            taking = False
            rest.append(word)
    return [*rest, f"{flag}={values!r}"] if given else rest
