"""Lay out tables: each row's mean and spread over seeds, beside the paper's number if it has one.

Written as Markdown, CSV and LaTeX.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.judging.claims import Arm, difference
from hdkd_dist.paper.judging.comparisons import Comparison, Evidence
from hdkd_dist.paper.paper_values import NETWORKS, Printed
from hdkd_dist.paper.records import Record
from hdkd_dist.paper.studies import STUDIES, Row
from hdkd_dist.paper.trials import Trial, settings_of

NOTE = "<!-- written by: python hdkd_dist/reproduce.py collect -->"
METRICS = {"top5": "top-5", "top1": "top-1"}  # the paper has top-5 only
NONE = "–"  # the paper prints nothing that could stand there

Grid = list[list[str]]  # a header, then lines


@dataclass(frozen=True)
class Cell:
    """Hold one exit of one row.

    Attributes:
        block: the part of the table.
        row: its title.
        metric: a key of ``METRICS``.
        exit: from 1.
        seeds: that are finished.
        mean: test accuracy in percent.
        spread: sample standard deviation over seeds; None for one seed.
        paper: the paper's number; None where it prints none for this network and data set.
    """

    block: str
    row: str
    metric: str
    exit: int
    seeds: int
    mean: float
    spread: float | None
    paper: float | None

    @property
    def difference(self) -> float | None:
        """Subtract the paper's number."""
        return None if self.paper is None else self.mean - self.paper


def cells(
    study: str,
    rows: Sequence[Row],
    records: Mapping[str, Record],
    printed: Mapping[tuple[str, str, str], Printed],
) -> list[Cell]:
    """Fill what can be filled, rows in their order; a row without a finished run has no cells."""
    table = STUDIES[study].table
    found = []
    for row in rows:
        runs = [records[trial.name] for trial in row.trials if trial.name in records]
        runs = [run for run in runs if run.has_test]
        paper = printed.get((table, row.block, row.title))
        for metric in METRICS if runs else ():
            comparable = paper and paper.metric == metric and is_papers_network(row.trial, table)
            for place, values in enumerate(zip(*(run.exits(metric) for run in runs), strict=True)):
                found.append(
                    Cell(
                        row.block,
                        row.title,
                        metric,
                        place + 1,
                        len(runs),
                        fmean(values),
                        stdev(values) if len(values) > 1 else None,
                        paper.exits[place] if paper and comparable else None,
                    )
                )
    return found


def trained_on(runs: Iterable[Record]) -> str:
    """Say which devices have trained runs of which methods; empty where that is not recorded."""
    counts: dict[str, Counter[str]] = {}
    for run in runs:
        if run.device:
            counts.setdefault(run.device, Counter())[METHODS[run.place["method"]].title] += 1
    places = [
        f"{device}: {', '.join(f'{number} {method}' for method, number in own.items())}"
        for device, own in sorted(counts.items())
    ]
    return f"Trained on {'; on '.join(places)}." if places else ""


def is_papers_network(trial: Trial, table: str) -> bool:
    """Tell whether a run's accuracies can stand beside those of one of the paper's tables."""
    model = settings_of(trial).model
    return model.preset == NETWORKS.get(table) and not model.overrides


def grids(found: Sequence[Cell]) -> Iterator[tuple[str, Grid]]:
    """Lay out a title and a grid per block and metric: a line per row, a column per exit."""
    for block, of_block in groupby(found, key=lambda cell: cell.block):
        ours = list(of_block)
        for metric, title in METRICS.items():
            own = [cell for cell in ours if cell.metric == metric]
            exits = max(cell.exit for cell in own)
            header = ["", *(f"exit {k}" for k in range(1, exits + 1)), "mean", "seeds"]
            beside = any(cell.paper is not None for cell in own)
            lines = []
            for row, of_row in groupby(own, key=lambda cell: cell.row):
                line = list(of_row)
                shown = [measured(cell) for cell in line] + [""] * (exits - len(line))
                mean = f"{fmean(cell.mean for cell in line):.2f}"
                paper = [against(line)] if beside else []
                lines.append([row, *shown, mean, str(line[0].seeds), *paper])
            grid = [header + ["paper (ours − paper)"] * beside, *lines]
            yield f"{block}, test {title} in percent", grid


# What is subtracted from what: in Tables 1 and 2 MSDNet from each method, and its sister from each
# method that learns γ; in Table 3 HDKD as it is from each of its variants.
_OF_METHODS = (
    *((method, "MSDNet") for method in ("DBT", "Impr", "NaiveDKD", "HMSDNet", "HDBT", "HDKD")),
    ("HDBT", "DBT"),
    ("HDKD", "NaiveDKD"),
)
_OF_VARIANTS = tuple(
    (variant, "DS-like")
    for variant in ("DBT-like", "random", "from DS-like", "from DBT-like", "0", "0.1", "0.9", "1")
)
DIFFERENCES = {"1": _OF_METHODS, "2": _OF_METHODS, "3": _OF_VARIANTS}
QUANTITIES = ("exit 1", "early exits", "late exits", "last exit", "all exits")


def differences(table: str, rows: Sequence[Row], evidence: Evidence) -> Iterator[tuple[str, Grid]]:
    """Lay out differences of methods beside the paper's, which needs no network of the same size.

    Args:
        table: of the paper: "1", "2" or "3".
        rows: of ours, as in that table.
        evidence: the finished runs.

    Yields:
        A title and a grid per data set: ours with half the interval's width / the paper's.
    """
    for title, of_data in groupby(rows, key=lambda row: row.trial.bench.title(row.trial.size)):
        titled = {row.title: row for row in of_data}
        arms = {
            title: Arm(title, row.trial, (table, row.block, title)) for title, row in titled.items()
        }
        lines = []
        for pair in DIFFERENCES[table]:
            more, less = (arms[name] for name in pair)
            compared = [difference(more, less, each) for each in QUANTITIES]
            if seeds := len(evidence.finished(compared[0])):
                shown = [difference_cell(each, evidence) for each in compared]
                names = " − ".join(full_title(table, titled[name]) for name in pair)
                lines.append([names, *shown, str(seeds)])
        if lines:
            yield title, [["", *QUANTITIES, "seeds"], *lines]


def full_title(table: str, row: Row) -> str:
    """Name a row outside its table: Table 3's "0" is "α 0"."""
    plain = table != "3" or row.block == "initial γ"
    return row.title if plain else f"{row.block} {row.title}"


def difference_cell(comparison: Comparison, evidence: Evidence) -> str:
    """Write ours, with half the width of its interval where that is known, and the paper's."""
    found, effect = evidence.interval(comparison), comparison.effect
    ours = f"{fmean(evidence.differences(comparison)):+.2f}"
    if found is not None:
        low, high = found.bounds()
        ours += f" ± {(high - low) / 2:.2f}"
    return f"{ours} / {NONE if effect is None else f'{effect:+.2f}'}"


def measured(cell: Cell) -> str:
    """Write mean ± standard deviation."""
    return f"{cell.mean:.2f}" + ("" if cell.spread is None else f" ± {cell.spread:.2f}")


def against(line: Sequence[Cell]) -> str:
    """Write the paper's numbers of a row, and how far ours are from them."""
    if all(cell.paper is None for cell in line):
        return NONE
    return " / ".join(f"{cell.paper:.2f} ({cell.difference:+.2f})" for cell in line)


def markdown_table(grid: Grid) -> str:
    """Write a table of GitHub's Markdown."""
    header, *lines = grid
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines)
    )


LATEX = {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "Σ": r"$\Sigma$", "γ": r"$\gamma$"}
LATEX |= {"α": r"$\alpha$", "₀": "$_0$", "%": r"\%", "_": r"\_", "&": r"\&", "–": "--"}
LATEX |= {"‖": r"$\Vert$", "∇": r"$\nabla$"}


def latex_table(title: str, grid: Grid) -> str:
    """Write a table with booktabs' rules."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(latex, cells)) + r" \\"

    header, *lines = grid
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{latex(title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            line(header),
            r"\midrule",
            *map(line, lines),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def latex(text: str) -> str:
    """Replace the characters that LaTeX would take for something else."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def csv_rows(study: str, found: Sequence[Cell]) -> list[Mapping[str, object]]:
    """Return one row per cell."""
    return [
        {
            "study": study,
            "block": cell.block,
            "row": cell.row,
            "exit": cell.exit,
            "metric": cell.metric,
            "seeds": cell.seeds,
            "mean": f"{cell.mean:.3f}",
            "spread": "" if cell.spread is None else f"{cell.spread:.3f}",
            "paper": "" if cell.paper is None else cell.paper,
            "difference": "" if cell.difference is None else f"{cell.difference:.3f}",
        }
        for cell in found
    ]
