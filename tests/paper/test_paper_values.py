"""The paper's numbers, against a second transcription and against what they must agree with."""

from __future__ import annotations

import pytest

from hdkd_dist.method.weights import METHODS
from hdkd_dist.models import PRESETS, build, exit_costs
from hdkd_dist.paper.paper_values import (
    FIGURE_2,
    MMAC,
    NETWORKS,
    PRINTED,
    TABLE_1,
    TABLE_2,
    TABLE_3,
)
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES

# Typed anew from the paper, line by line: one exit, all methods of two data sets.
COLUMNS = ("MSDNet", "Impr", "DBT", "NaiveDKD", "HMSDNet", "HDBT", "HDKD")
LINES = [
    (TABLE_1, "ImageNet(500)", 2, "82.76 84.13 83.87 84.03 83.49 85.07 84.48"),
    (TABLE_1, "ImageNet(full)", 2, "86.46 87.89 86.92 87.39 87.43 87.12 87.91"),
    (TABLE_1, "ImageNet(500)", 5, "86.92 87.25 86.85 85.81 88.56 87.85 87.96"),
    (TABLE_1, "ImageNet(full)", 5, "90.75 91.74 89.73 89.67 92.43 92.04 92.69"),
    (TABLE_2, "CIFAR(150)", 1, "74.44 74.54 80.92 82.20 74.94 80.09 81.38"),
    (TABLE_2, "CIFAR(250)", 1, "81.99 82.05 87.08 87.57 82.50 85.15 85.82"),
    (TABLE_2, "CIFAR(150)", 8, "84.85 86.82 85.70 85.99 84.96 86.94 87.43"),
    (TABLE_2, "CIFAR(250)", 8, "90.15 91.18 90.24 89.89 90.61 91.39 91.59"),
    (TABLE_2, "CIFAR(350)", 4, "88.91 89.43 90.38 90.71 89.42 90.55 90.83"),
    (TABLE_2, "CIFAR(500)", 4, "91.96 92.03 93.26 92.94 92.49 93.22 93.40"),
    (TABLE_2, "CIFAR(350)", 7, "90.24 91.23 90.74 91.19 90.73 91.12 91.22"),
    (TABLE_2, "CIFAR(500)", 7, "92.80 93.30 93.00 93.07 93.30 93.85 93.98"),
]
ABLATIONS = [  # MSDNet; DBT-like, DS-like, Rand; Fixed-1, Fixed-2; α 0, 0.1, 0.5, 0.9, 1
    (1, "72.45 79.02 78.72 79.22 78.47 78.49 77.51 76.64 78.72 77.07 79.55"),
    (3, "83.12 83.67 85.13 85.51 84.23 83.69 85.65 85.34 85.13 84.83 84.94"),
    (5, "84.66 85.65 87.37 87.70 85.91 83.33 87.94 87.54 87.37 87.31 86.11"),
]


@pytest.mark.parametrize(("table", "block", "exit_", "line"), LINES)
def test_a_second_transcription_agrees(table, block, exit_, line):
    found = [table[block][title][exit_ - 1] for title in COLUMNS]
    assert found == [float(word) for word in line.split()]


@pytest.mark.parametrize(("exit_", "line"), ABLATIONS)
def test_a_second_transcription_of_the_ablations_agrees(exit_, line):
    found = [exits[exit_ - 1] for rows in TABLE_3.values() for exits in rows.values()]
    assert found == [float(word) for word in line.split()]


def test_every_cell_is_there():
    assert sum(len(each.exits) for each in PRINTED.values()) == 140 + 224 + 55
    assert {each.metric for each in PRINTED.values()} == {"top5"}
    titles = {method.title for method in METHODS.values()}
    assert all(set(rows) == titles for rows in [*TABLE_1.values(), *TABLE_2.values()])


def test_the_margins_that_the_text_prints_are_those_of_the_tables():
    low = TABLE_1["ImageNet(100)"]
    assert low["HDKD"][0] - low["Impr"][0] == pytest.approx(8.56)
    assert low["HDKD"][0] - low["DBT"][0] == pytest.approx(2.5)
    last = [block["HDKD"][-1] - block["DBT"][-1] for block in TABLE_2.values()]
    assert last == pytest.approx([1.73, 1.35, 1.35, 1.12])


def test_table_3_repeats_table_1_but_for_one_cell():
    assert TABLE_3["baseline"]["MSDNet"] == TABLE_1["ImageNet(300)"]["MSDNet"]
    repeated, printed = TABLE_3["α"]["0.5"], TABLE_1["ImageNet(300)"]["HDKD"]
    assert repeated == TABLE_3["initial γ"]["DS-like"]
    assert repeated[:4] == printed[:4]
    assert (repeated[4], printed[4]) == (87.37, 86.37)


@pytest.mark.parametrize("table", MMAC)
def test_the_papers_networks_cost_what_it_says(table):
    preset = NETWORKS[table]
    costs = exit_costs(build(preset), PRESETS[preset].input_size).mmac
    assert costs == pytest.approx(MMAC[table], rel=0.02)


def test_every_row_of_the_papers_tables_is_a_row_of_ours():
    for table in "123":
        rows = STUDIES[table].rows(SCALES["paper_cheap"], lambda method: {})
        ours = {(table, row.block, row.title) for row in rows}
        theirs = {key for key in PRINTED if key[0] == table and key[1] != "baseline"}
        assert ours == theirs


def test_figure_2s_statements_are_of_methods_and_networks_that_are_trained():
    rows = list(STUDIES["figure2"].rows(SCALES["paper_cheap"], lambda method: {}))
    titles = {(row.block.split(", ")[0], row.title) for row in rows}
    for each in FIGURE_2:
        assert {(each.dataset, each.better), (each.dataset, each.than)} <= titles
