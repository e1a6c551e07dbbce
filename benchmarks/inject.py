"""Damage what the commands read, give their flags bad values, and demand one line and status 2.

    python benchmarks/inject.py --folder /tmp/injected

Each case copies a folder that is in order, damages one file of it or one flag, and runs one command
there, in a fork of this process (which has imported everything), under limits of memory and time.
It passes where the command

- refuses: status 2, one line on stderr, no file changed;
- or says which file it leaves out, with status 0;
- or ends exactly as it does on the undamaged folder: what was damaged had no part in it.

stdout ends with a table, readers × damages: cases that passed / cases. What did not pass is listed
above it, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import inspect
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import typing
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from damages import FILES, NESTED, Damage, json_damages
from injected_folder import DATA_SCRIPTS, build_folder, load_script

MEMORY = 3 << 30  # bytes beyond what this process has
SECONDS = 60.0  # of wall time; a third of that of a core
ASLEEP = 6.0  # seconds without any work after which a command waits for what never comes


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


CHECK = "train --ds_config config.json --check true"
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
        "imagefolder --source pictures --out made --per_class 6 --metaval_per_class 2",
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


@dataclass(frozen=True)
class End:
    """How a command ended."""

    status: int | str
    out: str
    err: str
    before: str  # sha256 of everything in the folder
    after: str


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


def file_cases(base: Path) -> Iterator[Case]:
    """Every reader × every damage to its file."""
    for reader in READERS:
        file = next(base.glob(reader.file), None)
        if file is None:
            continue
        for kind, damage in FILES.items():
            yield damaged(reader, kind, damage)
        if file.suffix == ".json":
            for kind, damage in NESTED.items():
                yield damaged(reader, kind, damage)
            for kind, damages in json_damages(file).items():
                for damage in damages:
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


def run_case(case: Case, words: Sequence[str], base: Path, harm: bool) -> End:
    """Run a command on a copy of the folder, damaged or not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        place = Path(temporary)
        folder, out, err = place / "case", place / "out", place / "err"
        folder.mkdir()
        for part in case.parts:
            source = base / part
            copy = shutil.copytree if source.is_dir() else shutil.copyfile
            copy(source, folder / part)
        if harm:
            case.damage(folder)
        before = hash_of(folder)
        child = os.fork()
        if child == 0:
            be_the_command(list(words), folder, out, err)
        status = await_end(child)
        return End(status, read(out), read(err), before, hash_of(folder))


def be_the_command(words: list[str], folder: Path, out: Path, err: Path) -> typing.NoReturn:
    """Run a command in this forked process, as its script does."""
    from hdkd_dist import cli

    try:
        os.setsid()
        os.chdir(folder)
        for file, stream in ((out, 1), (err, 2)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS / 3), int(SECONDS / 3)))
        command, *rest = words
        sys.argv = [command, *rest]
        main = entry_point(command, rest)
        with cli.leaving_at_once():
            cli.run(main, rest)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def await_end(child: int) -> int | str:
    """The exit status of a process; a word for what it died of."""
    started = worked = time.monotonic()
    work = -1
    fault = ""
    while not fault:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else signal.Signals(-code).name
        time.sleep(0.005)
        now = time.monotonic()
        state, *fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        if state != "S" or sum(map(int, fields[10:12])) != work:
            work, worked = sum(map(int, fields[10:12])), now
        if now - worked > ASLEEP:
            fault = "waits for ever"
        elif now - started > SECONDS:
            fault = "too slow"
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return fault


def read(file: Path) -> str:
    return file.read_bytes().decode(errors="replace") if file.exists() else ""


def hash_of(folder: Path) -> str:
    """sha256 of names, kinds, modes and contents in a folder; a lock file is none of them."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.name == ".lock":
            continue
        total.update(f"{path.relative_to(folder)} {path.lstat().st_mode}".encode())
        if path.is_symlink():
            total.update(os.readlink(path).encode())
        elif path.is_file():
            # of a file of 1 TiB the length and the beginning must do
            with path.open("rb") as file:
                total.update(f"{path.stat().st_size} ".encode() + file.read(1 << 26))
    return total.hexdigest()


TIMES = re.compile(r'("?\w*(ms|seconds|per_s|time)\w*"?)( ?[:=] ?)[\d.e-]+')


def judge(case: Case, end: End, control: Callable[[], End]) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    lines = [line for line in end.err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error")]
    if "Traceback (most recent call last)" in end.err:
        return f"traceback: {lines[-1]}"
    if end.status == 2:
        if end.before != end.after:
            return "files changed"
        if len(lines) != 1 or len(errors) != 1:
            return f"{len(lines)} lines: {' / '.join(lines)}"
        return "" if len(lines[0]) < 2000 else f"a line of {len(lines[0])} characters"
    if end.status != 0:
        return f"status {end.status}: {' / '.join(lines)}"
    if case.named and any(case.named in line for line in end.err.splitlines()):
        return ""
    if case.undamaged:
        usual = control()
        if TIMES.sub("", usual.out) == TIMES.sub("", end.out) and not lines:
            return ""
    return f"status 0: {' / '.join([*lines, *end.out.splitlines()[-1:]])}"


def inject(cases: Iterable[Case], base: Path) -> Iterator[tuple[Case, str]]:
    """Every case and its fault; empty where it passes."""
    controls: dict[tuple[str, ...], End] = {}
    for case in cases:

        def control(case: Case = case) -> End:
            if case.undamaged not in controls:
                controls[case.undamaged] = run_case(case, case.undamaged, base, harm=False)
            return controls[case.undamaged]

        yield case, judge(case, run_case(case, case.words, base, harm=True), control)


def table(results: Sequence[tuple[Case, str]]) -> str:
    """Readers × damages: cases that passed / cases."""
    counts: dict[str, Counter] = defaultdict(Counter)
    passed: dict[str, Counter] = defaultdict(Counter)
    for case, fault in results:
        for column in (case.column, "all"):
            for row in (case.row, "all"):
                counts[row][column] += 1
                passed[row][column] += not fault
    columns = [*dict.fromkeys(case.column for case, _ in results), "all"]
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for row in [*(row for row in counts if row != "all"), "all"]:
        cells = [f"{passed[row][c]}/{counts[row][c]}" if counts[row][c] else "" for c in columns]
        lines.append([row, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def warm() -> None:
    """Import everything once, so that a case costs no import."""
    import torch

    torch.set_num_threads(1)
    for name in ("train", "evaluate", "export", "predict", "report", "reproduce"):
        importlib.import_module(f"hdkd_dist.{name}")
    for name in (
        "training.run",
        "evaluation.evaluate_run",
        "reporting.page",
        "inference.predictor",
    ):
        importlib.import_module(f"hdkd_dist.{name}")
    for name in DATA_SCRIPTS:
        load_script(name)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="of what is in order; made if it is not there")
    parser.add_argument("--only", default="", help="a part of the rows' names")
    parser.add_argument("--json", type=Path, help="also list every case there")
    given = parser.parse_args()
    os.environ |= {"WANDB_MODE": "offline", "NUMBA_OPT": "0", "OMP_NUM_THREADS": "1"}
    warm()
    with tempfile.TemporaryDirectory() as temporary:
        base = (given.folder or Path(temporary, "base")).absolute()
        if not base.exists():
            build_folder(base)
        cases = [c for c in [*file_cases(base), *flag_cases(base)] if given.only in c.row]
        results = []
        for case, fault in inject(cases, base):
            results.append((case, fault))
            if fault:
                print(f"{case.row}, {case.column}: {case.words[-2:]}: {fault[:300]}", flush=True)
    if given.json:
        listed = [[case.row, case.column, case.words, fault] for case, fault in results]
        given.json.write_text(json.dumps(listed, indent=1))
    print(table(results))
    failed = sum(bool(fault) for _, fault in results)
    print(f"{len(results)} cases, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
