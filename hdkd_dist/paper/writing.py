"""Tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from hdkd_dist.paper.cells import METRICS, Cell

NOTE = "<!-- written by: python hdkd_dist/reproduce.py collect -->"
METRIC_TITLES = {"top1": "top-1", "top5": "top-5"}
UNKNOWN = "not known"

Grid = list[list[str]]  # a header, then lines


def grids(found: Sequence[Cell]) -> Iterator[tuple[str, Grid]]:
    """A title and a grid per block and metric: a line per row, a column per exit."""
    for block, of_block in groupby(found, key=lambda cell: cell.block):
        ours = list(of_block)
        for metric in METRICS:
            own = [cell for cell in ours if cell.metric == metric]
            exits = max(cell.exit for cell in own)
            header = ["", *(f"exit {k}" for k in range(1, exits + 1)), "mean", "seeds", "paper"]
            lines = []
            for title, of_row in groupby(own, key=lambda cell: cell.row):
                line = list(of_row)
                shown = [measured(cell) for cell in line] + [""] * (exits - len(line))
                mean = sum(cell.mean for cell in line) / len(line)
                lines.append([title, *shown, f"{mean:.2f}", str(line[0].seeds), against(line)])
            yield f"{block}, test {METRIC_TITLES[metric]} in percent", [header, *lines]


def measured(cell: Cell) -> str:
    """Mean ± standard deviation."""
    return f"{cell.mean:.2f}" + ("" if cell.spread is None else f" ± {cell.spread:.2f}")


def against(line: Sequence[Cell]) -> str:
    """The paper's numbers of a row, and the differences from them."""
    if all(cell.paper is None for cell in line):
        return UNKNOWN
    return " / ".join(
        UNKNOWN if cell.paper is None else f"{cell.paper:.2f} ({cell.difference:+.2f})"
        for cell in line
    )


def markdown_table(grid: Grid) -> str:
    """A table of GitHub's Markdown."""
    header, *lines = grid
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines)
    )


LATEX = {"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "Σ": r"$\Sigma$", "γ": r"$\gamma$"}
LATEX |= {"α": r"$\alpha$", "₀": "$_0$", "%": r"\%", "_": r"\_", "&": r"\&"}


def latex_table(title: str, grid: Grid) -> str:
    """A table with booktabs' rules."""

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
    """With the characters that LaTeX would take for something else."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def csv_rows(study: str, found: Sequence[Cell]) -> list[Mapping[str, object]]:
    """One row per cell."""
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
