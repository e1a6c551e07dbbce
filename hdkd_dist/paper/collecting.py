"""Write down what finished runs say: tables, what was chosen, claims, figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.costs import PLAIN_STEP, step_cost
from hdkd_dist.paper.figures import Curve, budget_curves, draw_budgeted, draw_gamma_over_seeds
from hdkd_dist.paper.judging.comparisons import Evidence
from hdkd_dist.paper.judging.page import claims_page
from hdkd_dist.paper.judging.statistics import LEVEL
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.paper_values import FIGURE_2, PRINTED
from hdkd_dist.paper.planning import planned, seeds_of, settings_or_default
from hdkd_dist.paper.queue import known_trials, study_rows, validation_of
from hdkd_dist.paper.records import Record, write_rows
from hdkd_dist.paper.scales import DATA_SETS, Setting
from hdkd_dist.paper.studies import STUDIES, Row
from hdkd_dist.paper.tables import (
    NONE,
    NOTE,
    Cell,
    cells,
    csv_rows,
    differences,
    grids,
    latex_table,
    markdown_table,
    trained_on,
)
from hdkd_dist.paper.tuning import (
    LEAST_GAP,
    PLATEAU,
    RULE_METHODS,
    RULE_SEEDS,
    STAGES,
    Untuned,
    chosen_network,
    chosen_or_default,
    chosen_rule,
    networks_tried,
    rule_score,
    rules_tried,
)

Rows = Mapping[str, Sequence[Row]]  # by study


def collect_runs(ledger: Ledger, claims_file: Path) -> tuple[list[Path], dict[str, str]]:
    """Take in finished runs, keep them in ``ledger.results``, and write all pages again.

    Returns:
        The files, and the tables of each study in Markdown.
    """
    studies = ledger.scale.studies
    known_trials(studies, ledger)
    check_one_draw(ledger.records.values())
    ledger.save()
    scale, results = ledger.scale.name, ledger.results
    # A run that was made with other settings than the ones now chosen stands in no table.
    known = {trial.name: trial for name in studies for trial in planned(name, ledger)}
    current = ledger.restricted_to(known.values())
    rows = {
        name: found
        for name in studies
        if (found := study_rows(name, current.scale, settings_or_default(current)))
    }
    tables = {name: cells(name, own, current.records, PRINTED) for name, own in rows.items()}
    curves = budget_curves(budget_rows(rows), current.records)
    evidence = Evidence.of(current.records, known, seeds_of(known.values()))
    pages = {name: "\n".join(study_lines(name, current, rows[name], tables[name])) for name in rows}
    if "figure2" in pages:
        pages["figure2"] += "\n" + "\n".join(figure_2_lines(curves))
    tables_file = results / f"{scale}_tables.md"
    texts = {
        tables_file: "\n".join(
            [*tables_head(current), *pages.values(), *difference_lines(current, evidence)]
        ),
        results / f"{scale}_tables.tex": "\n".join(tables_latex(tables)),
    }
    if ledger.scale.tuned:
        page = texts[results / f"{scale}_choices.md"] = "\n".join(choices_page(current))
        pages |= dict.fromkeys(STAGES, page)
    texts[claims_file] = "\n".join(claims_page(current, evidence, link(claims_file, tables_file)))
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    lines = [row for name, found in tables.items() for row in csv_rows(name, found)]
    table_csv = results / f"{scale}_tables.csv"
    write_rows(table_csv, lines, tuple(lines[0]) if lines else ("study",))
    drawn = draw_pages(current, rows, curves)
    return [results / f"{scale}.csv", *texts, table_csv, *drawn], pages


def check_one_draw(records: Iterable[Record]) -> None:
    """Refuse to compare runs on different draws of the same images.

    Raises:
        ValueError: naming two of them.
    """
    first: dict[tuple[str, str], Record] = {}
    for record in records:
        if record.data and (other := first.setdefault(record.data_set, record)).data != record.data:
            raise ValueError(
                f"{other.name} and {record.name} were trained on different draws of the same data "
                f"({other.data}, {record.data}): keep one kind, in a --results of its own"
            )


def link(page: Path, target: Path) -> str:
    """Return how one file is named from another."""
    return Path(os.path.relpath(target, page.parent)).as_posix()


def tables_head(ledger: Ledger) -> Iterator[str]:
    """Say what the tables are."""
    yield NOTE
    yield f"# Results at scale `{ledger.scale.name}`"
    yield ""
    yield (
        "Mean ± standard deviation over seeds, on the test split, which each run has read once, at "
        "its end. The paper has top-5 only; its numbers stand beside ours where the network is "
        "its own. The runs themselves stand in "
        f"[{ledger.scale.name}.csv]({ledger.scale.name}.csv), one a line."
    )


def study_lines(
    name: str, ledger: Ledger, rows: Sequence[Row], found: Sequence[Cell]
) -> Iterator[str]:
    """Write a study's tables in Markdown."""
    yield f"\n## {STUDIES[name].title}\n"
    names = dict.fromkeys(trial.name for row in rows for trial in row.trials)
    finished = [ledger.records[each] for each in names if each in ledger.records]
    yield f"{len(finished)} of {len(names)} runs are finished. {trained_on(finished)}".strip()
    for title, grid in grids(found):
        yield f"\n{title}:\n"
        yield markdown_table(grid)
    passes = {row.title: step_cost(row.trial) for row in rows}
    if len(set(passes.values())) > 1:
        yield "\nCost of a training step, in forward passes and against plain training:\n"
        lines = [[title, f"{n:g}", f"{n / PLAIN_STEP:.2f}"] for title, n in passes.items()]
        yield markdown_table([["", "passes", "× plain"], *lines])


def difference_lines(ledger: Ledger, evidence: Evidence) -> Iterator[str]:
    """Write our differences of methods beside the paper's."""
    scale = ledger.scale
    yield "\n## Differences of methods: ours / the paper's\n"
    yield (
        "In points of top-5, of runs with the same seed; ours with half the width of its "
        f"{LEVEL:.0%} interval. They can be compared where accuracies cannot, "
        "for the networks are not the same size."
    )
    for table in dict.fromkeys(STUDIES[name].table for name in scale.studies if name in STUDIES):
        if table:
            rows = STUDIES[table].rows(scale, settings_or_default(ledger))
            for title, grid in differences(table, list(rows), evidence):
                paper = "ImageNet(300)" if table == "3" else title
                yield f"\nTable {table}: {title} / the paper's {paper}:\n"
                yield markdown_table(grid)


def figure_2_lines(curves: Sequence[Curve]) -> Iterator[str]:
    """Write what the paper says of Figure 2 in numbers, and what was found."""
    at = {(curve.data, curve.method): curve for curve in curves}
    lines = []
    for each in FIGURE_2:
        better, than = (at.get((each.dataset, method)) for method in (each.better, each.than))
        found = f"{better.at(each.mmac) - than.at(each.mmac):+.2f}" if better and than else NONE
        what = f"{each.better} − {each.than}"
        lines.append([each.dataset, f"{each.mmac:g}", what, found, f"{each.points:+.2f}"])
    yield "\nPoints of top-5 at a budget, of the network that validation finds best there:\n"
    yield markdown_table([["data", "budget (MMAC)", "difference", "ours", "the paper's"], *lines])


def tables_latex(tables: Mapping[str, Sequence[Cell]]) -> Iterator[str]:
    """Write all tables in LaTeX."""
    for name, found in tables.items():
        for title, grid in grids(found):
            yield latex_table(f"{STUDIES[name].title}. {title}", grid) + "\n"


def choices_page(ledger: Ledger) -> Iterator[str]:
    """Write what was tried on validation before the tables, and what was chosen."""
    scale, records = ledger.scale, ledger.records
    validation = validation_of(ledger)
    yield NOTE
    yield f"# What was chosen first, at scale `{scale.name}`"
    yield ""
    yield (
        "Top-5 on the validation split in percent, with seeds that no table uses; the test split "
        "is not read."
    )
    yield f"\n## {STAGES['stage0']}\n"
    yield (
        f"MSDNet alone. Per network a rate is taken whose double lies within {PLATEAU:g} "
        "point of the best; then the network with the larger gap between its last and first exit, "
        f"at least {LEAST_GAP:g} points.\n"
    )
    lines = [
        [each.network, f"{each.rate:g}", per_exit(each.top5), f"{each.mean:.2f}", f"{each.gap:.2f}"]
        for each in networks_tried(scale, validation)
    ]
    yield markdown_table([["network", "rate", "exits", "mean", "gap"], *lines])
    yield "\n" + choice_line(lambda: chosen_network(scale, validation))
    yield f"\n## {STAGES['stage0b']}\n"
    yield (
        f"{' and '.join(METHODS[name].title for name in RULE_METHODS)}, seeds "
        f"{' and '.join(map(str, RULE_SEEDS))}; the mean over exits, methods and seeds decides.\n"
    )
    lines = []
    network = chosen_or_default(scale, "msdnet", validation)
    for name, trials in rules_tried(scale, network, validation).items():
        for trial in trials:
            if record := records.get(trial.name):
                top5 = record.exits("val_top5")
                method, mean = METHODS[trial.method].title, f"{fmean(top5):.2f}"
                seed = str(trial.seed)
                lines.append([name, method, seed, per_exit(top5), mean, record.device])
        if all(trial.name in records for trial in trials):
            score = rule_score(trials, validation)
            lines.append([name, "**all**", "", "", f"**{score:.2f}**", ""])
    yield markdown_table([["rule", "method", "seed", "exits", "mean", "device"], *lines])
    yield "\n" + choice_line(lambda: chosen_rule(scale, validation))


def per_exit(values: Sequence[float]) -> str:
    """Write one number per exit."""
    return " ".join(f"{value:.2f}" for value in values)


def choice_line(choose: Callable[[], Setting]) -> str:
    """Say what was chosen, or why nothing is."""
    try:
        chosen = ", ".join(f"`{key}={value}`" for key, value in choose().items())
    except Untuned as error:
        return f"Nothing is chosen: {error}."
    return f"Chosen: {chosen}."


def budget_rows(rows: Rows) -> list[Row]:
    """Return the rows of which curves of budgets are drawn: Figure 2's, else those of methods."""
    of_methods = [row for name in ("block1", "block2") for row in rows.get(name, ())]
    return list(rows.get("figure2", of_methods))


def draw_pages(ledger: Ledger, rows: Rows, curves: Sequence[Curve]) -> list[Path]:
    """Draw the figures that can be drawn."""
    folder, scale = ledger.results / "figures", ledger.scale
    drawn = []
    everything = {row.trial.name: row for own in rows.values() for row in own}.values()
    for method in (name for name, method in METHODS.items() if method.learns):
        runs = [
            ledger.records[trial.name]
            for row in everything
            if (row.trial.method, row.trial.variant) == (method, "")
            and (row.trial.bench.dataset, row.trial.size) == ("cifar100", 150)
            for trial in row.trials
            if trial.name in ledger.records
        ]
        if runs:
            file = folder / f"{scale.name}_gamma_{method}.png"
            drawn.append(draw_gamma_over_seeds(runs, METHODS[method].title, file))
    for dataset in scale.benches:
        title = DATA_SETS[dataset].title if dataset in DATA_SETS else dataset
        own = [curve for curve in curves if curve.data.startswith(title)]
        if own:
            drawn.append(draw_budgeted(own, folder / f"{scale.name}_budgeted_{dataset}.png"))
    return drawn
