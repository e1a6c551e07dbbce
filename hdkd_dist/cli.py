"""Run a function as a program: its flags are its parameters, its errors are lines to act on."""

from __future__ import annotations

import errno
import inspect
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

from hdkd_dist import __version__
from hdkd_dist.flags import HELP, flags_of, help_page, read_flags
from hdkd_dist.spelling import did_you_mean

TRACEBACK = "HDKD_TRACEBACK"  # environment variable: show where an error comes from
LONG = 1000  # characters; a longer word is shortened where it is complained of
# Packages that are not there after a plain ``pip install hdkd_dist`` → the extra that brings them.
EXTRAS = {
    **dict.fromkeys(("deepspeed", "ffcv", "wandb", "wandb_workspaces", "matplotlib"), "train"),
    **dict.fromkeys(("plotly", "jinja2", "tqdm", "sklearn", "scipy", "pydantic"), "train"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "export"),
    "timm": "timm",
}


def run(
    main: Callable[..., None], arguments: Sequence[str] | None = None, program: str | None = None
) -> None:
    """Run ``main`` with the command line's flags as its keyword arguments.

    A ``ValueError`` becomes one line on stderr and exit status 2, and so does a package of an
    extra that is not installed. Where the reader of stdout has left, the program ends with status 1
    and without a word.

    Args:
        main: the entry point; its signature is the command line, its docstring the help text.
        arguments: the command line without the program's name; default ``sys.argv[1:]``.
        program: its name; default that of the running script.
    """
    # Before torch is loaded. Threads that wait for others would else keep cores busy, and beside
    # another process, or the loader's threads, a step can take many times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = program or os.path.basename(sys.argv[0])
    try:
        if HELP & set(words):
            print(help_page(main, name))
        elif "--version" in words:
            print(f"hdkd_dist {__version__}")
        else:
            with extras_named(name):
                main(**read_flags(words, flags_of(main), name))
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
    except (OSError, RuntimeError) as error:
        if os.environ.get(TRACEBACK):
            raise
        if said := fault_of_a_path(error):
            fail(ValueError(said))
        if not isinstance(error, OSError) or error.filename is not None or not output_fails():
            raise
        discard_output()
        fail(ValueError(f"what is printed cannot be written to stdout ({error.strerror})"))


@contextmanager
def extras_named(program: str) -> Iterator[None]:
    """End with one line, and status 2, if ``program`` imports a package of a missing extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS or os.environ.get(TRACEBACK):
            raise
        fail(missing_extra(program, package))


def fault_of_a_path(error: OSError | RuntimeError) -> str:
    """Say in one line that a path can be none; empty for any other error.

    Whatever a program does first with such a path fails, be it a look whether it is there.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return f"{error.filename} cannot be a path here ({error.strerror}): give another one"
    if str(error).startswith("Symlink loop"):  # pathlib's own words, before Python 3.13
        return f"{error}: give a path that leads somewhere"
    return ""


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


def missing_extra(program: str, package: str) -> ValueError:
    """Say which extra brings a package that a program needs."""
    return ValueError(
        f"{program} needs {package}, which is not installed: pip install "
        f"'hdkd_dist[{EXTRAS[package]}]', or run make setup in a checkout"
    )


def reader_has_left(file: int) -> bool:
    """Tell whether the open ``file`` is a pipe whose reader has left (``... | head``)."""
    watch = select.poll()
    watch.register(file, 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def run_command(commands: Mapping[str, Callable[..., None]]) -> None:
    """Dispatch to the entry point that the first word names; the other words are its flags."""
    program = os.path.basename(sys.argv[0])
    name, *words = sys.argv[1:] or [""]
    if name in HELP:
        print(overview(f"{program} COMMAND --help lists a command's flags", commands_of(commands)))
    elif name in commands:
        run(commands[name], words, f"{program} {name}")
    else:
        given = f", not {name!r}{did_you_mean(name, commands)}" if name else ""
        fail(ValueError(f"the first word must be one of {', '.join(commands)}{given}"))


def commands_of(commands: Mapping[str, Callable[..., None]]) -> dict[str, str]:
    """Return what each command does: the first line of its docstring."""
    return {
        name: (inspect.getdoc(main) or "").partition("\n")[0] for name, main in commands.items()
    }


def overview(title: str, purposes: Mapping[str, str]) -> str:
    """List commands and what each does."""
    width = max(map(len, purposes))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in purposes.items()]
    return "\n".join([title, "", *lines])


def fail(error: ValueError) -> NoReturn:
    """Print ``error`` as one line and exit with status 2.

    What is wrong on all ranks alike is said by the first; an error with ``one_rank`` set is said by
    the rank that has it.
    """
    rank = os.environ.get("RANK", "0")
    first = rank in ("0", "") or not rank.isdigit()
    alone = getattr(error, "one_rank", False)
    if first or alone:
        where = "" if first else f" (rank {rank})"
        words = (word if len(word) < LONG else f"{word[:100]}…" for word in str(error).split())
        print(f"error{where}: {' '.join(words)}", file=sys.stderr, flush=True)
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


def words(texts: Sequence[str]) -> list[str]:
    """Split ``--seeds 0 1``, ``--seeds "0 1"`` and ``--seeds 0,1`` alike into words."""
    return [word for text in texts for word in text.replace(",", " ").split()]
