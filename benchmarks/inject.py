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

from injected_folder import DATA_SCRIPTS, build_folder, load_script
from injections import Case, entry_point, file_cases, flag_cases

MEMORY = 3 << 30  # bytes beyond what this process has
SECONDS = 180.0  # of wall time; a third of that of a core: some damages do not keep from training
ASLEEP = 6.0  # seconds without any work after which a command waits for what never comes


@dataclass(frozen=True)
class End:
    """How a command ended."""

    status: int | str
    out: str
    err: str
    before: str  # sha256 of everything in the folder
    after: str


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
    """A text that a command has left; empty if it has left none."""
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


PROGRESS = re.compile(r"\[\d\d:\d\d.*(files|images)/s\]$")  # is no complaint
TIMES = re.compile(r'("?\w*(ms|seconds|per_s|time)\w*"?)( ?[:=] ?)[\d.e-]+')


def judge(case: Case, end: End, control: Callable[[], End]) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    lines = [line for line in end.err.splitlines() if line.strip() and not PROGRESS.search(line)]
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
    if case.named and case.named in end.err + end.out:
        return ""
    if case.undamaged:
        warnings = [line for line in lines if line.startswith(("warning", "error"))]
        usual = control()
        if TIMES.sub("", usual.out) == TIMES.sub("", end.out) and not warnings:
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


IMPORTED = {
    "train": ("hdkd_dist.train", "hdkd_dist.training.run"),
    "evaluate": ("hdkd_dist.evaluate", "hdkd_dist.evaluation.evaluate_run"),
    "export": ("hdkd_dist.export", "hdkd_dist.runs.network"),
    "predict": ("hdkd_dist.predict", "hdkd_dist.inference.predictor"),
    "report": ("hdkd_dist.report", "hdkd_dist.reporting.page"),
    "reproduce": ("hdkd_dist.reproduce", "hdkd_dist.paper.collecting"),
}


def warm(commands: Iterable[str]) -> None:
    """Import what the commands need, so that a case costs no import; starts no thread."""
    for command in commands:
        if command in DATA_SCRIPTS:
            load_script(command)
        for module in IMPORTED.get(command, ()):
            importlib.import_module(module)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="of what is in order; made if it is not there")
    parser.add_argument("--rows", default="", help="a regular expression")
    parser.add_argument("--columns", default=".*", help="a regular expression, of the whole")
    parser.add_argument("--each", type=int, default=20, help="places of one kind in a JSON file")
    parser.add_argument("--json", type=Path, help="also list every case there")
    given = parser.parse_args()
    os.environ |= {"WANDB_MODE": "offline", "NUMBA_OPT": "0", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as temporary:
        base = (given.folder or Path(temporary, "base")).absolute()
        if not base.exists():
            build_folder(base)
        cases = [
            case
            for case in (*file_cases(base, given.each), *flag_cases(base))
            if re.search(given.rows, case.row) and re.fullmatch(given.columns, case.column)
        ]
        warm({case.words[0] for case in cases})
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
