"""Tables as they are written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.paper.paper_values import PRINTED, Printed
from hdkd_dist.paper.scales import SCALES, preset
from hdkd_dist.paper.studies import STUDIES, changed
from hdkd_dist.paper.tables import (
    cells,
    csv_rows,
    grids,
    latex_table,
    markdown_table,
    trained_on,
)

# The small networks have four exits; here DBT is taken for one of the paper's networks.
NETWORK = preset("msdnet-cifar-8") | {"hdkd.model.overrides": {}}
ROWS = [
    replace(row, trial=changed(row.trial, "", NETWORK), seeds=(0, 1, 2))
    for row in list(STUDIES["2"].rows(SMALL, no_settings))[:2]  # MSDNet, DBT
]
FOUR = {("2", "CIFAR(150)", "DBT"): Printed("top5", (51.0, 51.5, 53.0, 56.0))}


@pytest.fixture
def found():
    records = {}
    for row in ROWS:
        for trial in row.trials:
            base = 30.0 + trial.seed
            records[trial.name] = record(trial, [base, base + 1, base + 2, base + 3])
    del records[ROWS[0].trials[2].name]
    return cells("2", ROWS, records, FOUR)


def test_mean_spread_seeds_and_the_papers_number(found):
    msdnet, dbt = (cell for cell in found if cell.metric == "top5" and cell.exit == 1)
    assert (msdnet.mean, msdnet.seeds, msdnet.paper) == (50.5, 2, None)
    assert msdnet.spread == pytest.approx(0.5**0.5)
    assert (dbt.mean, dbt.spread, dbt.seeds) == (51.0, 1.0, 3)
    assert (dbt.paper, dbt.difference) == (51.0, 0.0)
    assert msdnet.difference is None
    assert all(cell.paper is None for cell in found if cell.metric == "top1")


def test_markdown(found):
    (title, grid), (other, plain) = grids(found)
    assert (title, other) == (
        "CIFAR(150), test top-5 in percent",
        "CIFAR(150), test top-1 in percent",
    )
    assert markdown_table(grid).splitlines() == [
        "|  | exit 1 | exit 2 | exit 3 | exit 4 | mean | seeds | paper (ours − paper) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| MSDNet | 50.50 ± 0.71 | 51.50 ± 0.71 | 52.50 ± 0.71 | 53.50 ± 0.71 | 52.00 | 2 | – |",
        "| DBT | 51.00 ± 1.00 | 52.00 ± 1.00 | 53.00 ± 1.00 | 54.00 ± 1.00 | 52.50 | 3 "
        "| 51.00 (+0.00) / 51.50 (+0.50) / 53.00 (+0.00) / 56.00 (-2.00) |",
    ]
    assert plain[0][-1] == "seeds"  # without the paper's column: it has no top-1


def test_a_table_says_what_has_trained_its_runs():
    devices = ["NVIDIA H200", "cpu", None]
    runs = []
    for row in ROWS:
        for trial, device in zip(row.trials, devices, strict=True):
            run = record(trial, [30.0] * 4)
            runs.append(
                replace(run, values={**run.values, **({"device": device} if device else {})})
            )
    runs += runs[:1]
    assert trained_on(runs) == ("Trained on NVIDIA H200: 2 MSDNet, 1 DBT; on cpu: 1 MSDNet, 1 DBT.")
    assert trained_on(run for run in runs if "device" not in run.values) == ""


def test_another_network_does_not_stand_beside_the_papers():
    (row, *_) = STUDIES["block1"].rows(SMALL, no_settings)
    own = {trial.name: record(trial, [30.0] * 4) for trial in row.trials}
    assert PRINTED["2", row.block, row.title]
    assert all(cell.paper is None for cell in cells("block1", [row], own, PRINTED))


def test_at_the_papers_scale_its_numbers_stand_beside_ours():
    rows = list(STUDIES["2"].rows(SCALES["paper"], no_settings))
    first = rows[0].trials[0]
    found = cells("2", rows, {first.name: record(first, [50.0] * 8)}, PRINTED)
    paper = [cell.paper for cell in found if cell.metric == "top5"]
    assert paper == [74.44, 78.97, 81.27, 82.72, 84.12, 85.10, 85.30, 84.85]


def test_latex_has_no_bare_signs(found):
    (title, grid), _ = grids(found)
    text = latex_table("100 % of γ_1 ± 0: ‖∇L‖ " + title, grid)
    assert r"50.50 $\pm$ 0.71 & 51.50" in text
    assert r"100 \% of $\gamma$\_1" in text
    assert text.count(r"\\") == 3
    assert text.isascii()


def test_csv_has_a_row_per_cell(found):
    rows = csv_rows("2", found)
    assert len(rows) == 2 * 2 * 4
    dbt = next(row for row in rows if row["row"] == "DBT" and row["exit"] == 4)
    assert (dbt["metric"], dbt["mean"]) == ("top5", "54.000")
    assert (dbt["paper"], dbt["difference"]) == (56.0, "-2.000")


def test_a_row_without_runs_is_left_out():
    assert cells("2", ROWS, {}, {}) == []
