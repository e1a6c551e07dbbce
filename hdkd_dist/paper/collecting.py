"""What finished runs say, written down: tables, the search's outcome, claims, figures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.cells import Cell, cells
from hdkd_dist.paper.claims_page import claims_page
from hdkd_dist.paper.costs import PLAIN_STEP, step_cost
from hdkd_dist.paper.figures import draw_budgeted, draw_gamma_over_seeds
from hdkd_dist.paper.judging import Evidence
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.paper_values import PRINTED
from hdkd_dist.paper.planning import hopeful, planned
from hdkd_dist.paper.queue import ORDER, TUNING, known_trials, study_rows
from hdkd_dist.paper.records import SPEED, Record, write_rows
from hdkd_dist.paper.studies import STUDIES, Row
from hdkd_dist.paper.trials import Trial
from hdkd_dist.paper.tuning import Untuned, best, candidates
from hdkd_dist.paper.writing import NOTE, csv_rows, grids, latex_table, markdown_table


def collect(ledger: Ledger, claims_file: Path) -> tuple[list[Path], dict[str, str]]:
    """Take in finished runs, keep them, and write all pages anew.

    Returns:
        The files, and the tables of each study in Markdown.
    """
    known_trials(ORDER, ledger)
    ledger.save()
    scale, results = ledger.scale.name, ledger.results
    # A run that was made with other settings than the ones now chosen stands in no table.
    known = {trial.name: trial for name in ORDER for trial in planned(name, ledger)}
    current = ledger.restricted_to(known.values())
    tables = {name: table_of(name, current) for name in STUDIES}
    pages = {
        name: text for name in STUDIES if (text := "\n".join(study_lines(name, current, tables)))
    }
    tables_file = results / f"{scale}_tables.md"
    texts = {
        tables_file: "\n".join([*tables_head(current), *pages.values()]),
        results / f"{scale}_tables.tex": "\n".join(tables_latex(tables)),
    }
    if ledger.scale.tuned:
        pages[TUNING] = texts[results / f"{scale}_tuning.md"] = "\n".join(tuning_page(current))
    evidence = Evidence.of(current.records, known, ledger.scale.seeds)
    texts[claims_file] = "\n".join(claims_page(current, evidence, link(claims_file, tables_file)))
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    rows = [row for name, found in tables.items() for row in csv_rows(name, found)]
    table_csv = results / f"{scale}_tables.csv"
    write_rows(table_csv, rows, tuple(rows[0]) if rows else ("study",))
    return [results / f"{scale}.csv", *texts, table_csv, *draw(current)], pages


def link(page: Path, target: Path) -> str:
    """How one file is named from another."""
    return Path(os.path.relpath(target, page.parent)).as_posix()


def table_of(name: str, ledger: Ledger) -> list[Cell]:
    """The cells of a study that are there."""
    return cells(name, study_rows(name, ledger.scale, hopeful(ledger)), ledger.records, PRINTED)


def tables_head(ledger: Ledger) -> Iterator[str]:
    """What the tables are."""
    yield NOTE
    yield f"# Results at scale `{ledger.scale.name}`"
    yield ""
    yield (
        "Mean ± standard deviation over seeds, on the test split, which each run has read once, at "
        'its end. "paper": the number it prints for that row, and our difference from it. The runs '
        f"themselves stand in [{ledger.scale.name}.csv]({ledger.scale.name}.csv), one a line."
    )


def study_lines(name: str, ledger: Ledger, tables: Mapping[str, Sequence[Cell]]) -> Iterator[str]:
    """A study's tables in Markdown; nothing if the scale has no such study."""
    rows = study_rows(name, ledger.scale, hopeful(ledger))
    if not rows:
        return
    yield f"\n## {STUDIES[name].title}\n"
    yield progress_of(rows, ledger)
    for title, grid in grids(tables[name]):
        yield f"\n{title}:\n"
        yield markdown_table(grid)
    passes = {row.title: step_cost(row.trial) for row in rows}
    if len(set(passes.values())) > 1:
        yield "\nCost of a training step, in forward passes and against plain training:\n"
        lines = [[title, f"{n:g}", f"{n / PLAIN_STEP:.2f}"] for title, n in passes.items()]
        yield markdown_table([["", "passes", "× plain"], *lines])


def progress_of(rows: Sequence[Row], ledger: Ledger) -> str:
    """How many of the runs are there."""
    names = {trial.name for row in rows for trial in row.trials}
    return f"{len(names & ledger.records.keys())} of {len(names)} runs are finished."


def tables_latex(tables: Mapping[str, Sequence[Cell]]) -> Iterator[str]:
    """All tables in LaTeX."""
    for name, found in tables.items():
        for title, grid in grids(found):
            yield latex_table(f"{STUDIES[name].title}. {title}", grid) + "\n"


def tuning_page(ledger: Ledger) -> Iterator[str]:
    """What was searched, what it cost and what came out."""
    scale, records = ledger.scale, ledger.records
    yield NOTE
    yield f"# The search for settings at scale `{scale.name}`"
    yield ""
    yield (
        "Top-1 on the validation split in percent; the mean over the exits decides. One seed, "
        "which no table uses; the test split is not read. Every method has the same number of "
        "settings; a method that learns γ starts from the best loss settings of its fixed sister, "
        "and tries settings of γ."
    )
    hours = 0.0
    for method, title in ((name, method.title) for name, method in METHODS.items()):
        yield f"\n## {title}\n"
        try:
            tried = candidates(scale, method, ledger.scores)
        except Untuned as error:
            yield f"Not begun: {error}"
            continue
        rows = []
        for name, trial in tried.items():
            record = records.get(trial.name)
            exits = [f"{value:.2f}" for value in record.exits("val_top1")] if record else []
            score = f"{record.score:.2f}" if record else "not run yet"
            settings = ", ".join(f"{key}={value}" for key, value in trial.settings.items())
            rows.append([name, settings.replace("hdkd.", ""), " ".join(exits), score])
            hours += training_hours(trial, record) if record else 0
        yield markdown_table([["candidate", "settings", "exits", "mean"], *rows])
        try:
            yield f"\nChosen: `{best(scale, method, ledger.scores)}`."
        except Untuned:
            yield "\nNot enough runs yet."
    yield f"\nThe search has cost {hours:.2f} hours of training so far."


def training_hours(trial: Trial, record: Record) -> float:
    """What the steps took, at the run's median speed: interruptions do not count."""
    images = record.values["train.steps"] * trial.bench.read_config()["train_batch_size"]
    return images / record.values[SPEED] / 3600


def draw(ledger: Ledger) -> list[Path]:
    """The figures that can be drawn."""
    folder = ledger.results / "figures"
    drawn = []
    for method in (name for name, method in METHODS.items() if method.learns):
        runs = [
            ledger.records[trial.name]
            for row in study_rows("2", ledger.scale, hopeful(ledger))
            if row.trial.method == method and row.trial.size == row.trial.bench.ablation_size
            for trial in row.trials
            if trial.name in ledger.records
        ]
        if runs:
            file = folder / f"{ledger.scale.name}_gamma_{method}.png"
            drawn.append(draw_gamma_over_seeds(runs, METHODS[method].title, file))
    for bench in ledger.scale.benches.values():
        curves = {
            (row.block, row.title): [
                ledger.records[trial.name] for trial in row.trials if trial.name in ledger.records
            ]
            for row in study_rows("figure2", ledger.scale, hopeful(ledger))
            if row.trial.bench == bench
        }
        if shown := {title: runs for title, runs in curves.items() if runs}:
            file = folder / f"{ledger.scale.name}_budgeted_{bench.dataset}.png"
            drawn.append(draw_budgeted(shown, file))
    return drawn
