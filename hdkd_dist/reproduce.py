"""Compute the paper's tables and claims: ``python hdkd_dist/reproduce.py plan --table 2``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hdkd_dist import cli


def run(
    table: str = "all",
    scale: str = "small",
    data: Path = Path("data"),
    out: Path | None = None,
    results: Path | None = None,
    jobs: int = 1,
    part: str | None = None,
    launcher: str = sys.executable,
    per_device: int = 1,
) -> None:
    """Train and evaluate what is missing; the same call again goes on where it stopped.

    Args:
        table: at the paper's scales 1, 2, 3, figure2, controls, equilibrium, levers, sizes; at
            scale small stage0, stage0b, block1, block2, block3, block4, block6; several of them,
            or all.
        scale: paper (Algorithm 1 to the letter), paper_cheap (this package's defaults) or small.
        data: the folder of the prepared data sets, such as data/cifar100-150.
        out: gets the runs' folders; default runs/<scale>.
        results: what has been collected; runs that stand there are finished; default docs/results.
        jobs: how many runs side by side, each on a core or device of its own.
        part: i/n, the i-th of n parts, from 0; default the task of a Slurm array.
        launcher: what starts train.py, such as deepspeed for all GPUs of a machine.
        per_device: how many runs may share a GPU: several of a small network keep it busier.
    """
    from hdkd_dist.paper.execution import STOPPED, execute
    from hdkd_dist.paper.planning import planned
    from hdkd_dist.paper.queue import known_trials, part_of, studies_named, study_trials

    ledger = open_ledger(scale, data, out, results)
    studies = studies_named(table, ledger.scale)
    words = shlex.split(launcher)
    if not words or shutil.which(words[0]) is None:
        raise ValueError(f"--launcher {launcher!r} is no program that can be found from here")
    own = part_of([trial for name in studies for trial in planned(name, ledger)], asked_part(part))
    ledger.check_data(known_trials(studies, ledger))
    failed = execute(
        lambda: [trial for trial in known_trials(studies, ledger) if trial.name in own],
        ledger,
        jobs,
        words,
        per_device,
    )
    stopped = [status for status in failed.values() if status in STOPPED]
    if stopped:
        sys.exit(stopped[0])
    if failed:
        raise ValueError(f"{len(failed)} run(s) have failed: {', '.join(failed)}; see their logs")
    for study in studies:
        study_trials(study, ledger)  # says so if its settings are not known yet
    left = [trial for trial in known_trials(studies, ledger) if not ledger.has(trial)]
    print(f"nothing is left to do here; other parts have {len(left)} runs" if left else "finished")


def plan(
    table: str = "all",
    scale: str = "small",
    data: Path = Path("data"),
    out: Path | None = None,
    results: Path | None = None,
    commands: bool = False,
    efficiency: float | None = None,
) -> None:
    """Print the runs of studies, their commands, and an estimate of their cost.

    Args:
        table: at the paper's scales 1, 2, 3, figure2, controls, equilibrium, levers, sizes; at
            scale small stage0, stage0b, block1, block2, block3, block4, block6; several of them,
            or all.
        scale: paper (Algorithm 1 to the letter), paper_cheap (this package's defaults) or small.
        data: the folder of the prepared data sets.
        out: gets the runs' folders; default runs/<scale>.
        results: what has been collected; runs that stand there are finished; default docs/results.
        commands: print each run's commands.
        efficiency: the part of an A100's peak (bf16 or TF32) that is reached; default: 0.055,
            inferred from an H200 (docs/results/gpu.json);
            at scale small, the measured speed of a core instead.
    """
    from hdkd_dist.paper.costs import CORE_TMAC, EFFICIENCY, PEAK_TMAC, tmac_per_second
    from hdkd_dist.paper.planning import Device, check_lines, plan_lines, planned, power_of
    from hdkd_dist.paper.queue import known_trials, studies_named

    ledger = open_ledger(scale, data, out, results)
    studies = studies_named(table, ledger.scale)
    known_trials(ledger.scale.studies, ledger)
    trials = [trial for name in ledger.scale.studies for trial in planned(name, ledger)]
    part = EFFICIENCY if efficiency is None else efficiency
    if not 0 < part <= 1:
        raise ValueError(f"--efficiency must be a number above 0 and up to 1, not {part!r}")
    rates = {precision: part * peak for precision, peak in PEAK_TMAC.items()}
    device = Device(f"an A100 at {part:.1%} of its peak (inferred, never measured)", rates)
    measured = tmac_per_second(ledger.records, {trial.name: trial for trial in trials})
    if efficiency is None and ledger.scale.tuned:
        rates = dict.fromkeys(PEAK_TMAC, measured or CORE_TMAC)
        device = Device("one core, as measured", rates)
    for line in plan_lines(studies, ledger, device, commands):
        print(line)
    for line in [*check_lines(ledger, trials), *power_of(studies, ledger)]:
        print(line)


def collect(
    table: str | None = None,
    scale: str = "small",
    data: Path = Path("data"),
    out: Path | None = None,
    results: Path | None = None,
    write: Path | None = None,
    claims: Path | None = None,
) -> None:
    """Gather finished runs and write tables, claims and figures again.

    Args:
        table: whose tables are also printed; all are written.
        scale: paper, paper_cheap or small.
        data: the folder of the prepared data sets.
        out: has the runs' folders; default runs/<scale>.
        results: what has been collected before; runs that stand there are finished; default
            docs/results.
        write: gets the raw results, one row per run, and all pages; default <out>/results.
        claims: gets the ledger of the paper's claims; default <write>/<scale>_claims.md.
    """
    from dataclasses import replace

    from hdkd_dist.paper import collecting
    from hdkd_dist.paper.queue import studies_named

    ledger = open_ledger(scale, data, out, results)
    asked = studies_named(table, ledger.scale) if table else ()
    folder = write or ledger.place.out / "results"
    page = claims or folder / f"{ledger.scale.name}_claims.md"
    written, pages = collecting.collect_runs(replace(ledger, results=folder), page)
    for name in asked:
        print(pages.get(name, f"\n{name}: nothing at scale {scale}"))
    print(f"{len(ledger.records)} runs; written: {', '.join(map(str, written))}")


def task(
    number: int,
    table: str = "2",
    scale: str = "paper",
    methods: Sequence[str] = (),
    sizes: Sequence[str] = (),
    seeds: Sequence[str] = (),
) -> None:
    """Print method, size and seed of one run of Table 1 or 2, and the number of runs.

    Args:
        number: of the run, from 0.
        table: 1 or 2.
        scale: paper, paper_cheap or small.
        methods: these instead of the table's.
        sizes: images per class, instead of the table's.
        seeds: instead of the table's.
    """
    from hdkd_dist.paper.queue import table_runs
    from hdkd_dist.paper.scales import scale_named

    runs = table_runs(
        table, scale_named(scale), cli.words(methods), cli.words(sizes), cli.words(seeds)
    )
    if number not in range(len(runs)):
        raise ValueError(
            f"task {number} of the array is beyond the {len(runs)} combinations: submit with "
            f"sbatch --array=0-{len(runs) - 1}"
        )
    print(*runs[number], len(runs))


def open_ledger(scale: str, data: Path, out: Path | None, results: Path | None):
    """Read what is known of a scale.

    Raises:
        ValueError: if it is damaged, or a path stands for something else than a folder.
    """
    from hdkd_dist.data.paths import check_folder
    from hdkd_dist.paper.ledger import Ledger
    from hdkd_dist.paper.scales import scale_named
    from hdkd_dist.paper.trials import place_of

    for flag, folder in (("--data", data), ("--out", out), ("--results", results)):
        if folder is not None:
            check_folder(flag, folder)
    if results is not None and not results.exists():
        raise ValueError(f"--results {results} is not there: name the folder of what is collected")
    chosen = scale_named(scale)
    return Ledger.read(chosen, place_of(chosen, data, out), results or Path("docs/results"))


def asked_part(part: str | None) -> tuple[int, int]:
    """Read ``"2/7"`` as (2, 7); by default the task of a Slurm array, or everything.

    Raises:
        ValueError: for anything else, and for an array of some tasks only, which does not tell how
            many there are.
    """
    if part is None and "SLURM_ARRAY_TASK_ID" in os.environ:
        names = ("ID", "MIN", "MAX", "COUNT")
        numbers = [os.environ.get(f"SLURM_ARRAY_TASK_{name}", "") for name in names]
        if not all(map(str.isdigit, numbers)):
            raise ValueError(
                "SLURM_ARRAY_TASK_ID is in the environment without the other variables of an array "
                f"({', '.join(f'SLURM_ARRAY_TASK_{name}' for name in names)}): unset it"
            )
        index, first, last, parts = map(int, numbers)
        if (first, last) != (0, parts - 1):
            raise ValueError(
                f"the array has {parts} task(s) between {first} and {last}, not 0 to N, which does "
                "not tell into how many parts the runs are divided: set PARTS to the number of "
                f"tasks of the whole array (--part {index}/PARTS), or submit all with --array=0-N"
            )
        return index, parts
    if part is None:
        return 0, 1
    i, slash, n = part.partition("/")
    if not (slash and i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise ValueError(f"--part must be i/n with i from 0 to n-1, not {part!r}")
    return int(i), int(n)


COMMANDS: dict[str, Callable[..., None]] = {
    "plan": plan,
    "run": run,
    "collect": collect,
    "task": task,
}


if __name__ == "__main__":
    cli.run_command(COMMANDS)
