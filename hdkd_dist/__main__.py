"""Start a command of the package: ``hdkd train``, ``hdkd-train`` or ``python -m hdkd_dist train``.

A command runs the same file that a checkout runs by its path, such as ``hdkd_dist/train.py``.
"""

from __future__ import annotations

import ast
import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hdkd_dist import __version__, cli
from hdkd_dist.flags import HELP
from hdkd_dist.spelling import did_you_mean

PACKAGE = Path(__file__).parent
PREPARE = "prepare"  # the first word of the commands that prepare data sets


@dataclass(frozen=True)
class Command:
    """Describe what a command runs.

    Attributes:
        module: run as ``python -m`` would.
        purpose: what it does, in one line.
    """

    module: str
    purpose: str


def preparing() -> dict[str, Command]:
    """Find the scripts that prepare data sets; each is the command "prepare NAME"."""
    commands = {}
    for script in sorted((PACKAGE / "data_prep").glob("*.py")):
        document = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
        commands[f"{PREPARE} {script.stem}"] = Command(
            f"hdkd_dist.data_prep.{script.stem}", document.partition("\n")[0]
        )
    return commands


COMMANDS: dict[str, Command] = {
    "train": Command("hdkd_dist.train", "Train a multi-exit network."),
    "evaluate": Command("hdkd_dist.evaluate", "Evaluate finished runs."),
    "export": Command("hdkd_dist.export", "Export a finished run for use elsewhere."),
    "predict": Command("hdkd_dist.predict", "Classify images with an exported network."),
    "report": Command("hdkd_dist.report", "Show runs as one self-contained page."),
    "reproduce": Command("hdkd_dist.reproduce", "Plan, run and collect the paper's tables."),
    "drift": Command(
        "hdkd_dist.inference.drift", "Compare live answers of an exported network with its export."
    ),
    "models": Command("hdkd_dist.models", "Print every network with the cost of each exit."),
    "wandb-upload": Command(
        "hdkd_dist.reporting.wandb_upload", "Upload runs to W&B from their records."
    ),
    "wandb-workspace": Command(
        "hdkd_dist.reporting.wandb_workspace", "Make a W&B workspace of runs."
    ),
    **preparing(),
}


def overview(first_word: str = "") -> str:
    """List the commands, or those of one first word, such as "prepare"."""
    return cli.overview(
        f"hdkd_dist {__version__}: hdkd COMMAND …, where hdkd COMMAND --help lists the flags",
        {
            name: command.purpose
            for name, command in COMMANDS.items()
            if name.startswith(first_word)
        },
    )


def split_words(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split a command line into the command's name and its arguments.

    Raises:
        ValueError: if it names no command.
    """
    for length in (1, 2):  # "prepare NAME" has two words
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name, list(words[length:])
    group, asked = words[:2] if words[0] == PREPARE else ("", words[0])
    known = [name.removeprefix(f"{group} ") for name in COMMANDS if name.startswith(group)]
    hint = did_you_mean(asked, known) or f": choose one of {', '.join(known)}"
    raise ValueError(f"{f'{group} {asked}'.strip()!r} is no command of hdkd{hint}")


def main() -> None:
    """Run the command that the program's name or its first word says."""
    program, *words = sys.argv
    own_name = os.path.basename(program)
    if own_name.startswith("hdkd-"):
        words = [own_name.removeprefix("hdkd-"), *words]
    if not words or words[0] in HELP:
        print(overview())
        return
    if words[0] == PREPARE and (len(words) == 1 or words[1] in HELP):
        print(overview(PREPARE))
        return
    if words[0] == "--version":
        print(f"hdkd_dist {__version__}")
        return
    try:
        name, arguments = split_words(words)
    except ValueError as error:
        cli.fail(error)
    sys.argv = [f"hdkd-{name.replace(' ', '-')}", *arguments]
    with cli.extras_named(sys.argv[0]):  # already its imports may need one
        runpy.run_module(COMMANDS[name].module, run_name="__main__")


if __name__ == "__main__":
    main()
