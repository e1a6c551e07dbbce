"""What inject.py does to what: readers and flags, each with the command that is run."""

from __future__ import annotations

import importlib
import inspect
import os
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from damages import FILES, NESTED, Damage, json_damages
from injected_folder import DATA_SCRIPTS, load_script


@dataclass(frozen=True)
class Reader:
    """A file and a command that reads it.

    Attributes:
        file: in the folder that :func:`build_folder` has made.
        words: the command and its flags.
        parts: what of the folder it needs.
    """

    file: str
    words: str
    parts: tuple[str, ...]


CHECK = "train --ds_config config.json --data data/digits --check true"
RESUME = "train --ds_config config.json --out run --resume auto"
EVALUATE = "evaluate --run run"
EXPORT = "export --run run --out made --onnx false"
REPORT = "report --runs run --out made.html"
PREDICT = "predict --model exported --images images"
PLAN = "reproduce plan --results results"
REFUSED = ("not finite", "key twice", "nested", "nested objects")  # no JSON, whoever reads it
RUN = ("run", "data")
EXPORTED = ("exported", "images")
READERS = [
    Reader("config.json", CHECK, ("config.json", "data")),
    Reader("data/digits/manifest.json", CHECK, ("config.json", "data")),
    Reader("data/digits/train.beton", CHECK, ("config.json", "data")),
    Reader("data/digits/metaval.beton", CHECK, ("config.json", "data")),
    Reader("run/config.json", EVALUATE, RUN),
    Reader("run/config.json", EXPORT, RUN),
    Reader("run/config.json", REPORT, RUN),
    Reader("run/manifest.json", EVALUATE, RUN),
    Reader("run/manifest.json", EXPORT, RUN),
    Reader("run/results.json", EXPORT, RUN),
    Reader("run/results.json", REPORT, RUN),
    Reader("run/metrics.jsonl", REPORT, RUN),
    Reader("run/checkpoints/final/model.safetensors", EVALUATE, RUN),
    Reader("run/checkpoints/final/model.safetensors", EXPORT, RUN),
    Reader("data/digits/test.beton", EVALUATE, RUN),
    Reader("run/checkpoints/step-*/checkpoint.json", RESUME, ("config.json", *RUN)),
    Reader("run/checkpoints/step-*/rank_00000.pt", RESUME, ("config.json", *RUN)),
    Reader("run/checkpoints/step-*/mp_rank_00_model_states.pt", RESUME, ("config.json", *RUN)),
    Reader(
        "run/results.json",
        "train --ds_config config.json --out other --set hdkd.gamma.init=fixed:run",
        ("config.json", *RUN),
    ),
    Reader(
        "run/checkpoints/final/model.safetensors",
        "train --ds_config config.json --out other --init_from run",
        ("config.json", *RUN),
    ),
    Reader("exported/model.json", PREDICT, EXPORTED),
    Reader("exported/model.safetensors", PREDICT + " --runtime torch", EXPORTED),
    Reader("exported/onnx/stage_1.onnx", PREDICT + " --runtime onnx", EXPORTED),
    Reader("images/0.png", PREDICT, EXPORTED),
    Reader("images/1.jpg", PREDICT, EXPORTED),
    Reader("arrays.npz", "arrays --source arrays.npz --out made", ("arrays.npz",)),
    *(
        Reader(
            f"cifar-100-python/{name}",
            "cifar100 --source cifar-100-python --out made --metaval_per_class 2",
            ("cifar-100-python",),
        )
        for name in ("train", "test", "meta")
    ),
    Reader(
        "pictures/train/n01/n01_train_0.JPEG",
        "imagefolder --source pictures --out made --per_class 9 --metaval_per_class 2",
        ("pictures",),
    ),
    Reader("results/small.csv", PLAN, ("results",)),
    Reader("results/small_gamma.csv", PLAN, ("results",)),
]
# Commands whose flags get bad values: a command that is in order without them.
FLAGS = {
    CHECK: ("config.json", "data"),
    EVALUATE: RUN,
    EXPORT: RUN,
    REPORT: RUN,
    PREDICT: EXPORTED,
    PLAN: ("results",),
    "digits --out made": (),
    "arrays --source arrays.npz --out made": ("arrays.npz",),
    "cifar100 --source cifar-100-python --out made": ("cifar-100-python",),
    "imagefolder --source pictures --out made": ("pictures",),
}
NUMBERS = ("", "x", "nan", "inf", "-inf", "1e400", "-1", "[1]", "{}", "1" + "0" * 400, "None")
SWITCHES = ("", "maybe", "2", "[]", "None")
FILES_TO_READ = ("", "nowhere", "/dev/zero", "/dev/null/x", "x" * 5000, "fifo", "loop")
PLACES_TO_WRITE = ("", "/dev/null/x", "x" * 5000, "fifo", "loop", "/proc/x")
WORDS = ("", "nonsense", "x" * 5000)


@dataclass(frozen=True)
class Case:
    """One command on one damaged folder, or with one bad flag."""

    row: str
    column: str
    words: tuple[str, ...]
    parts: tuple[str, ...]
    damage: Callable[[Path], None] = lambda folder: None
    named: str = ""  # part of what a command says that leaves the damaged file out
    undamaged: tuple[str, ...] = ()  # the command in order


def damaged(reader: Reader, kind: str, damage: Damage) -> Case:
    """The case of a reader and a damage to its file."""
    command, *_ = words = tuple(reader.words.split())
    name = Path(reader.file).name
    # Where a command only says that all is in order, saying it again proves nothing.
    telling = kind not in REFUSED and (reader.words != CHECK or kind == "key missing")
    return Case(
        row=f"{reader.file} ({command})",
        column=kind,
        words=words,
        parts=reader.parts,
        damage=lambda folder: damage(next(folder.glob(reader.file))),
        named="run" if command == "report" else name,
        undamaged=words if telling else (),
    )


def file_cases(base: Path, each: int) -> Iterator[Case]:
    """Every reader × every damage to its file; of one kind within a JSON file ``each`` places."""
    for reader in READERS:
        file = next(base.glob(reader.file), None)
        if file is None:
            continue
        for kind, damage in FILES.items():
            yield damaged(reader, kind, damage)
        if file.suffix == ".json" and reader.words != EVALUATE:  # which takes seconds
            for kind, damage in NESTED.items():
                yield damaged(reader, kind, damage)
            for kind, damages in json_damages(file).items():
                for damage in damages[:: max(1, len(damages) // each)]:
                    yield damaged(reader, kind, damage)


def flag_cases(base: Path) -> Iterator[Case]:
    """Every flag of every command × every bad value of its type."""
    for command, parts in FLAGS.items():
        if not all((base / part).exists() for part in parts):
            continue
        name, *rest = command.split()
        main = entry_point(name, rest)
        for flag, kind in typing.get_type_hints(main).items():
            if flag in ("return", "local_rank"):
                continue
            values = bad_values(flag, kind, inspect.signature(main).parameters[flag].default)
            for column, value in [*values, ("no value", None)]:
                if value is None and kind is bool:
                    continue  # a switch stands alone
                words = (*without(command.split(), f"--{flag}"), f"--{flag}")
                words += () if value is None else (value,)
                yield Case(f"--{flag} ({name})", column, words, parts, make_obstacles)
        for column, words in {
            "misspelt": ("--ouut", "x"),
            "stray word": ("stray",),
            "empty word": ("",),
        }.items():
            yield Case(f"flags ({name})", column, (*command.split(), *words), parts)


def bad_values(flag: str, kind: Any, default: Any) -> list[tuple[str, str]]:
    """Values that a flag of this type must refuse, with the column that they belong to."""
    names = {float: NUMBERS, int: (*NUMBERS, "1.5"), bool: SWITCHES}
    kinds = [each for each in (kind, *typing.get_args(kind)) if each in names]
    if kinds:
        optional = type(None) in typing.get_args(kind)
        values = [value for value in names[kinds[0]] if not (optional and value == "None")]
        return [("bad number" if kinds[0] is not bool else "bad switch", v) for v in values]
    if flag in ("out", "write", "claims"):
        return [("bad place", value) for value in PLACES_TO_WRITE]
    if isinstance(default, str):
        return [("bad word", value) for value in WORDS]
    return [("bad path", value) for value in FILES_TO_READ]


def without(words: Sequence[str], flag: str) -> list[str]:
    """The words of a command without a flag and its value."""
    if flag not in words:
        return list(words)
    place = list(words).index(flag)
    return [*words[:place], *words[place + 2 :]]


def make_obstacles(folder: Path) -> None:
    """A FIFO and a link to itself, for flags that name a path."""
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")


def entry_point(command: str, words: list[str]) -> Callable[..., None]:
    """The function that a command runs; a command's own first word is taken from ``words``."""
    if command in DATA_SCRIPTS:
        return load_script(command).prepare
    module = importlib.import_module(f"hdkd_dist.{command}")
    return module.COMMANDS[words.pop(0)] if command == "reproduce" else module.main
