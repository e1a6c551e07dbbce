"""Tables as they are written."""

from __future__ import annotations

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.paper.cells import cells
from hdkd_dist.paper.paper_values import Printed
from hdkd_dist.paper.studies import STUDIES
from hdkd_dist.paper.writing import csv_rows, grids, latex_table, markdown_table

ROWS = list(STUDIES["2"].rows(SMALL, no_settings))[:2]  # MSDNet, DBT
PRINTED = {("2", "CIFAR(150)", "DBT"): Printed("top1", (31.0, 31.5, 33.0, 36.0))}


@pytest.fixture
def found():
    records = {}
    for row in ROWS:
        for trial in row.trials:
            base = 30.0 + trial.seed
            records[trial.name] = record(trial, [base, base + 1, base + 2, base + 3])
    del records[ROWS[0].trials[2].name]
    return cells("2", ROWS, records, PRINTED)


def test_mean_spread_seeds_and_the_papers_number(found):
    first = [cell for cell in found if cell.metric == "top1" and cell.exit == 1]
    msdnet, dbt = first
    assert (msdnet.mean, msdnet.seeds, msdnet.paper) == (30.5, 2, None)
    assert msdnet.spread == pytest.approx(0.5**0.5)
    assert (dbt.mean, dbt.spread, dbt.seeds) == (31.0, 1.0, 3)
    assert (dbt.paper, dbt.difference) == (31.0, 0.0)
    assert msdnet.difference is None


def test_markdown(found):
    (title, grid), _ = grids(found)
    assert title == "CIFAR(150), test top-1 in percent"
    assert markdown_table(grid).splitlines() == [
        "|  | exit 1 | exit 2 | exit 3 | exit 4 | mean | seeds | paper |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| MSDNet | 30.50 ± 0.71 | 31.50 ± 0.71 | 32.50 ± 0.71 | 33.50 ± 0.71 | 32.00 | 2 "
        "| not known |",
        "| DBT | 31.00 ± 1.00 | 32.00 ± 1.00 | 33.00 ± 1.00 | 34.00 ± 1.00 | 32.50 | 3 "
        "| 31.00 (+0.00) / 31.50 (+0.50) / 33.00 (+0.00) / 36.00 (-2.00) |",
    ]


def test_latex_has_no_bare_signs(found):
    (title, grid), _ = grids(found)
    text = latex_table("100 % of γ_1 ± 0: " + title, grid)
    assert r"30.50 $\pm$ 0.71 & 31.50" in text
    assert r"100 \% of $\gamma$\_1" in text
    assert text.count(r"\\") == 3
    assert text.isascii()


def test_csv_has_a_row_per_cell(found):
    rows = csv_rows("2", found)
    assert len(rows) == 2 * 2 * 4
    dbt = next(row for row in rows if row["row"] == "DBT" and row["exit"] == 4)
    assert (dbt["mean"], dbt["paper"], dbt["difference"]) == ("34.000", 36.0, "-2.000")


def test_a_row_without_runs_is_left_out():
    assert cells("2", ROWS, {}, {}) == []
