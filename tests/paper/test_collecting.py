"""All pages, from made-up runs."""

from __future__ import annotations

import csv
from dataclasses import replace

from made_up import SMALL, no_settings, record

from hdkd_dist.paper.collecting import collect
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.studies import STUDIES
from hdkd_dist.paper.trials import RATE, Place
from hdkd_dist.paper.tuning import candidates, planned_tuning


def collected(folder, records):
    place = Place(folder / "data", folder / "runs")
    ledger = Ledger(SMALL, place, folder / "results", {each.name: each for each in records})
    collect(ledger, folder / "claims.md")
    return ledger


def test_nothing_yet_is_said_as_such(tmp_path):
    collected(tmp_path, [])
    claims = (tmp_path / "claims.md").read_text()
    assert "confirmed**" not in claims
    assert claims.count("**not enough runs yet**") > 20
    assert "0 of 21 runs are finished." in (tmp_path / "results/small_tables.md").read_text()
    assert "not run yet" in (tmp_path / "results/small_tuning.md").read_text()


def test_tables_claims_and_figures(tmp_path):
    rows = [row for row in STUDIES["2"].rows(SMALL, no_settings) if row.block == "CIFAR(150)"]
    better = {row.title: 30.0 + 2 * place for place, row in enumerate(rows)}  # HDKD is the last
    runs = [
        record(trial, [better[row.title] + trial.seed + k for k in range(4)], [31.0, 32.0, 33.0])
        for row in rows
        for trial in row.trials
    ]
    kept = collected(tmp_path, runs)
    claims = (tmp_path / "claims.md").read_text()
    assert "| HDKD is the best at the last exit. | **confirmed** |" in claims
    assert (
        "| HDKD − HDBT | last exit | above 0 | +2.00 | +2.00 to +2.00 | 3 of 3 | confirmed |"
        in claims
    )
    assert "| The gain of HDKD grows as the data shrink. | **not enough runs yet** |" in claims
    tables = (tmp_path / "results/small_tables.md").read_text()
    assert "21 of 21 runs are finished." in tables
    assert "| MSDNet | 31.00 ± 1.00 | 32.00 ± 1.00 |" in tables
    assert r"31.00 $\pm$ 1.00" in (tmp_path / "results/small_tables.tex").read_text()
    with (tmp_path / "results/small_tables.csv").open() as lines:
        cells = list(csv.DictReader(lines))
    assert {cell["study"] for cell in cells} >= {"2", "3", "figure2"}
    assert (tmp_path / "results/figures/small_gamma_hdkd.png").stat().st_size > 1000
    assert (tmp_path / "results/figures/small_budgeted_cifar100.png").stat().st_size > 1000
    again = Ledger.read(SMALL, kept.place, kept.results)
    assert again.records == kept.records


def test_the_search_is_shown_with_its_outcome(tmp_path):
    tried = [trial for trial in planned_tuning(SMALL, no_settings) if trial.method == "msdnet"]
    collected(tmp_path, [record(trial, [20.0 + n] * 4) for n, trial in enumerate(tried)])
    page = (tmp_path / "results/small_tuning.md").read_text()
    last = list(candidates(SMALL, "msdnet", {}))[-1]
    assert f"Chosen: `{last}`." in page
    assert "| 23.00 |" in page  # validation, one point above the test split
    assert "test" not in page.split("## MSDNet")[1].split("## DBT")[0]


def test_runs_of_other_settings_stand_in_no_table(tmp_path):
    row = next(STUDIES["2"].rows(SMALL, no_settings))
    other = [replace(trial, settings={RATE: 0.3}) for trial in row.trials]
    kept = collected(tmp_path, [record(trial, [30.0] * 4) for trial in other])
    assert "0 of 21 runs are finished." in (tmp_path / "results/small_tables.md").read_text()
    assert len(Ledger.read(SMALL, kept.place, kept.results).records) == 3
