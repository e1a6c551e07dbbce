"""What finished runs say, written down: tables, the search's outcome, claims, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.cells import Cell, cells
from hdkd_dist.paper.claims import claims
from hdkd_dist.paper.figures import draw_budgeted, draw_gamma_over_seeds
from hdkd_dist.paper.judging import Judged, judged
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.paper_values import PRINTED
from hdkd_dist.paper.planning import hopeful
from hdkd_dist.paper.queue import ORDER, TUNING, known_trials, study_rows
from hdkd_dist.paper.records import SPEED, Record, write_rows
from hdkd_dist.paper.statistics import LEVEL, MARGIN
from hdkd_dist.paper.studies import STUDIES, Row
from hdkd_dist.paper.trials import Trial
from hdkd_dist.paper.tuning import Untuned, best, candidates
from hdkd_dist.paper.writing import csv_rows, grids, latex_table, markdown_table

NOTE = "<!-- written by: python hdkd_dist/reproduce.py collect -->"


def collect(ledger: Ledger, studies: Sequence[str], claims_file: Path) -> list[Path]:
    """Take in finished runs, keep them, and write all pages anew; returns the files."""
    known_trials(ORDER, ledger)
    ledger.save()
    scale, results = ledger.scale.name, ledger.results
    named = [name for name in studies if name != TUNING]
    tables = {name: table_of(name, ledger) for name in named}
    texts = {
        results / f"{scale}_tables.md": "\n".join(tables_page(ledger, tables)),
        results / f"{scale}_tables.tex": "\n".join(tables_latex(tables)),
    }
    if ledger.scale.tuned:
        texts[results / f"{scale}_tuning.md"] = "\n".join(tuning_page(ledger))
    texts[claims_file] = "\n".join(claims_page(ledger))
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    rows = [row for name, found in tables.items() for row in csv_rows(name, found)]
    table_csv = results / f"{scale}_tables.csv"
    write_rows(table_csv, rows, tuple(rows[0]) if rows else ("study",))
    return [results / f"{scale}.csv", *texts, table_csv, *draw(ledger)]


def table_of(name: str, ledger: Ledger) -> list[Cell]:
    """The cells of a study that are there."""
    return cells(name, study_rows(name, ledger.scale, hopeful(ledger)), ledger.records, PRINTED)


def tables_page(ledger: Ledger, tables: Mapping[str, Sequence[Cell]]) -> Iterator[str]:
    """All tables in Markdown."""
    yield NOTE
    yield f"# Results at scale `{ledger.scale.name}`"
    yield ""
    yield (
        "Mean ± standard deviation over seeds, on the test split, which each run has read once, at "
        'its end. "paper": the number it prints for that row, and our difference from it. The runs '
        f"themselves stand in [{ledger.scale.name}.csv]({ledger.scale.name}.csv), one a line."
    )
    for name, found in tables.items():
        rows = study_rows(name, ledger.scale, hopeful(ledger))
        if not rows:
            continue
        yield f"\n## {STUDIES[name].title}\n"
        yield progress_of(rows, ledger)
        for title, grid in grids(found):
            yield f"\n{title}:\n"
            yield markdown_table(grid)


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


def claims_page(ledger: Ledger) -> Iterator[str]:
    """The ledger of claims."""
    scale = ledger.scale
    found = [judged(claim, ledger.records, scale.seeds) for claim in claims(scale, hopeful(ledger))]
    yield NOTE
    yield "# The paper's claims"
    yield ""
    yield (
        f"Held against runs at scale `{scale.name}` ([tables](results/{scale.name}_tables.md)); "
        "what is confirmed or refuted here is so at this scale. Each comparison is one of runs "
        "with the same seed, data and order of samples: top-1 on the test split, averaged over the "
        f"exits named, per seed; the interval is Student's t over seeds, {LEVEL:.0%}. A statement "
        "is confirmed where the whole interval lies in the stated range, refuted where none of it "
        f'does, undecided otherwise; "within ±{MARGIN:g}" is what "does not matter" is taken to '
        "mean, in points. A claim of several statements is confirmed where all are, refuted where "
        "one is. Controls tell where a gain comes from: it is due to harmony as far as the "
        "learned run also beats its fixed sister with the same size of γ (Σγ/Σγ₀ replayed step by "
        "step) and with a learning rate multiplied by the mean of that ratio; they do not count "
        "for the verdict."
    )
    yield ""
    yield markdown_table(
        [["claim", "verdict"], *([each.claim.text, f"**{each.verdict}**"] for each in found)]
    )
    for each in found:
        yield from claim_lines(each)


def claim_lines(each: Judged) -> Iterator[str]:
    """One claim with its comparisons."""
    yield f"\n## {each.claim.text}\n"
    rows = []
    for comparison, found, verdict in zip(
        each.claim.comparisons, each.found, each.verdicts, strict=True
    ):
        shown = ("", "", "")
        if found is not None:
            spread = f"{found.low:+.2f} to {found.high:+.2f}"
            shown = (f"{found.mean:+.2f}", spread, str(found.seeds))
        kind = " (control)" if comparison.control else ""
        where = comparison.quantity + kind
        rows.append([comparison.title, where, comparison.statement, *shown, verdict])
    header = ["difference", "of", "stated", "mean", f"{LEVEL:.0%} interval", "seeds", "verdict"]
    yield markdown_table([header, *rows])
    yield f"\nVerdict: **{each.verdict}**."
    if each.origin:
        yield f"\n{each.origin}"


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
    curves = {
        f"{row.block}: {row.title}": [
            ledger.records[trial.name] for trial in row.trials if trial.name in ledger.records
        ]
        for row in study_rows("figure2", ledger.scale, hopeful(ledger))
    }
    if shown := {title: runs for title, runs in curves.items() if runs}:
        drawn.append(draw_budgeted(shown, folder / f"{ledger.scale.name}_budgeted.png"))
    return drawn
