"""All pages, from made-up runs."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.paper.collecting import collect_runs, figure_2_lines
from hdkd_dist.paper.figures import budget_curves
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.records import nested, to_values
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES
from hdkd_dist.paper.trials import RATE, Folders
from hdkd_dist.paper.tuning import RATES, network_trials


def collected(folder, records):
    place = Folders(folder / "data", folder / "runs")
    ledger = Ledger(SMALL, place, folder / "results", {each.name: each for each in records})
    collect_runs(ledger, folder / "claims.md")
    return ledger


def block_1():
    return list(STUDIES["block1"].rows(SMALL, no_settings))


def with_budgets(run, costs, top5):
    """The run with a table of budgets: the same accuracy on validation and on test."""
    rows = [
        {"budget_mmac": cost, "mmac": cost, "val_top1": 0.0, "val_top5": a, "top1": 0.0, "top5": a}
        for cost, a in zip(costs, top5, strict=True)
    ]
    values = {key: value for key, value in run.values.items() if not key.startswith("budgeted")}
    return replace(run, values={**values, **to_values({"budgeted": rows})})


def test_nothing_yet_is_said_as_such(tmp_path):
    collected(tmp_path, [])
    claims = (tmp_path / "claims.md").read_text()
    assert "confirmed**" not in claims
    assert claims.count("not enough runs yet") > 20
    assert "0 of 40 runs are finished." in (tmp_path / "results/small_tables.md").read_text()
    assert "Nothing is chosen" in (tmp_path / "results/small_choices.md").read_text()


def test_tables_and_figures(tmp_path):
    better = {row.title: 30.0 + 2 * place for place, row in enumerate(block_1())}
    runs = [
        with_budgets(
            record(trial, [better[row.title] + trial.seed + k for k in range(4)]),
            [2.0, 4.0, 8.0],
            [better[row.title] + k for k in range(3)],
        )
        for row in block_1()
        for trial in row.trials
    ]
    kept = collected(tmp_path, runs)
    tables = (tmp_path / "results/small_tables.md").read_text()
    assert "40 of 40 runs are finished." in tables
    assert "| MSDNet | 53.50 ± 2.45 | 54.50 ± 2.45 |" in tables  # top-5, over eight seeds
    assert tables.index("top-5 in percent") < tables.index("top-1 in percent")
    # Differences of methods stand beside the paper's: its own HDKD − MSDNet is 6.94 at exit 1.
    assert "Table 2: CIFAR(150) / the paper's CIFAR(150):" in tables
    assert "| HDKD − MSDNet | +8.00 ± 0.00 / +6.94 |" in tables
    assert r"53.50 $\pm$ 2.45" in (tmp_path / "results/small_tables.tex").read_text()
    with (tmp_path / "results/small_tables.csv").open() as lines:
        found = list(csv.DictReader(lines))
    assert {cell["study"] for cell in found} == {"block1"}
    assert (tmp_path / "results/figures/small_gamma_hdkd.png").stat().st_size > 1000
    assert (tmp_path / "results/figures/small_budgeted_cifar100.png").stat().st_size > 1000
    again = Ledger.read(SMALL, kept.place, kept.results)
    assert again.records == kept.records


def test_the_choice_is_shown_with_what_was_tried(tmp_path):
    runs = []
    for (network, rate), trial in network_trials(SMALL).items():
        mean = 40.0 - abs(RATES.index(rate) - 1) / 2  # 0.1 is the best, 0.2 nearly as good
        gap = 4 if network == "tiny" else 8
        run = record(trial, [mean - gap, mean, mean, mean + gap])
        exits = [{**row, "val_top5": row["val_top1"] + 20} for row in nested(run.values)["exits"]]
        runs.append(replace(run, values={**run.values, **to_values({"exits": exits})}))
    collected(tmp_path, runs)
    page = (tmp_path / "results/small_choices.md").read_text()
    assert "Chosen: `hdkd.model.preset=msdnet-cifar-gap`, `hdkd.schedule.base_lr=0.1`." in page
    assert "| gap | 0.1 | 53.00 61.00 61.00 69.00 | 61.00 | 16.00 |" in page
    assert "stage0b has not chosen yet (20 of 20 runs are missing)" in page


def test_runs_of_other_settings_stand_in_no_table(tmp_path):
    row, *_ = block_1()
    other = [replace(trial, settings={RATE: 0.3}) for trial in row.trials]
    kept = collected(tmp_path, [record(trial, [30.0] * 4) for trial in other])
    assert "0 of 40 runs are finished." in (tmp_path / "results/small_tables.md").read_text()
    assert len(Ledger.read(SMALL, kept.place, kept.results).records) == 8


def test_figure_2_is_the_envelope_that_validation_chooses():
    rows = [
        row
        for row in STUDIES["figure2"].rows(SCALES["paper"], no_settings)
        if row.block.startswith("CIFAR(500)")
    ]
    ahead = {"MSDNet": 0.0, "DBT": 0.71, "HDKD": 0.83}
    costs = {"4 exits": [6.0, 38.0], "5 exits": [6.0, 58.0], "6 exits": [6.0, 89.0]}
    costs["8 exits"] = [6.0, 193.0]
    records = {}
    for row in rows:
        small, large = costs[row.block.split(", ")[1]]
        for trial in row.trials:
            # A network is better the deeper it is, but only once it can be afforded.
            top5 = [80.0 + ahead[row.title], 80.0 + ahead[row.title] + large / 100]
            records[trial.name] = with_budgets(record(trial, [1.0] * 4), [small, large], top5)
    curves = {curve.method: curve for curve in budget_curves(rows, records)}
    hdkd = curves["HDKD"]
    assert hdkd.seeds == 3
    assert (hdkd.budgets[0], hdkd.budgets[-1]) == (6.0, 193.0)
    assert hdkd.at(50.0) == pytest.approx(80.83 + 0.38)  # that of four exits
    assert hdkd.at(150.0) == pytest.approx(80.83 + 0.89)  # that of six
    text = "\n".join(figure_2_lines(list(curves.values())))
    assert "| CIFAR(500) | 25 | HDKD − MSDNet | +0.83 | +0.83 |" in text
    assert "| CIFAR(500) | 125 | HDKD − DBT | +0.12 | +1.66 |" in text
    assert "| ImageNet(full) | 2500 | HDKD − DBT | – | +3.50 |" in text
    # A seed of which a network is missing has no envelope.
    gone = {name: run for name, run in records.items() if name != rows[0].trials[0].name}
    assert {c.method: c.seeds for c in budget_curves(rows, gone)}["MSDNet"] == 2


def test_runs_on_different_draws_are_not_compared(tmp_path):
    row, *_ = block_1()
    one, other = (record(trial, [30.0] * 4) for trial in row.trials[:2])
    runs = [replace(one, data="0123"), replace(other, data="4567")]
    with pytest.raises(ValueError, match=r"different draws of the same data \(0123, 4567\)"):
        collected(tmp_path, runs)
