"""The charts show the numbers that runs recorded."""

from __future__ import annotations

import json

import pytest
from recorded_run import record_run, settings

from hdkd_dist.reporting import comparison
from hdkd_dist.reporting.comparison import thinned
from hdkd_dist.reporting.runs import read_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("charts")
    return read_runs(
        [
            record_run(folder / "hdkd"),
            record_run(folder / "four", settings("hdbt"), exits=4),
            record_run(folder / "fixed", settings("naive_dkd"), finished=False),
        ]
    )


def events(folder, runs, kind):
    lines = (folder / runs.name / "metrics.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == kind]


def test_validation_accuracy_has_a_chart_per_exit_and_a_line_per_run(runs):
    figure = comparison.per_exit_over_epochs(runs, 500)
    assert [note.text for note in figure.layout.annotations] == [f"exit {k}" for k in (1, 2, 3, 4)]
    lines = [(trace.name, trace.xaxis, trace.x, trace.y) for trace in figure.data]
    assert len(lines) == 3 + 4 + 3
    assert ("four", "x4", (1, 2, 3), (26.5, 31.5, 36.5)) in lines  # 53, 63, 73 of 200
    assert ("hdkd", "x", (1, 2, 3), (25, 30, 35)) in lines
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named == ["hdkd", "four", "fixed"]


def test_runs_have_the_colour_of_their_method_in_every_chart(runs):
    def colors(figure):
        return {trace.name: trace.line.color for trace in figure.data}

    accuracy = colors(comparison.per_exit_over_epochs(runs, 500))
    assert len(set(accuracy.values())) == 3
    assert colors(comparison.per_exit_losses(runs, 500)) == accuracy
    sums = colors(comparison.weight_sums(runs, 500))
    assert sums == {name: accuracy[name] for name in ("hdkd", "four")}  # those that learn
    costs = comparison.accuracy_against_cost(runs)
    assert [trace.name for trace in costs.data] == ["hdkd", "four"]  # those that are finished
    assert costs.data[0].x == (10, 20, 30)
    assert costs.data[0].y == (34.5, 35, 35.5)


def test_many_runs_are_named_by_method(tmp_path):
    folder = record_run(tmp_path / "one", settings("dbt"))
    [run] = read_runs([folder])
    many = [run] * (comparison.LEGEND_RUNS + 1)
    figure = comparison.per_exit_over_epochs(many, 500)
    assert [trace.name for trace in figure.data if trace.showlegend] == ["DBT"]
    assert "one<br>" in figure.data[-1].hovertemplate


@pytest.mark.parametrize("place", [0, 1])
def test_weights_stand_at_their_teacher_and_student(runs, place):
    run = runs[place]
    [matrix] = comparison.gamma_matrix(run).data
    rows = dict(zip(matrix.y, matrix.z, strict=True))
    gamma = run.results["gamma"]
    assert rows["labels"] == pytest.approx(gamma["ce"], abs=1e-4)
    exists = {"hdkd": lambda i, j: i > j, "four": lambda i, j: i == 3 > j}[run.name]
    for i in range(1, run.num_exits):
        for j in range(run.num_exits):
            shown = rows[f"exit {i + 1}"][j]
            if exists(i, j):
                assert shown == pytest.approx(gamma["kd"][i][j], abs=1e-4)
            else:
                assert shown is None
    starts = dict(zip(matrix.y, matrix.customdata, strict=True))
    assert list(starts["labels"]) == [1] * run.num_exits


def test_weights_over_time_are_changes_since_the_start(runs):
    [heat] = comparison.run_gamma(runs[0], 500).data
    assert heat.x == (2, 4, 6, 8, 10, 12)
    rows = dict(zip(heat.y, heat.z, strict=True))
    assert list(rows["CE 1 (1.00)"]) == pytest.approx([0.01 * s for s in heat.x], abs=1e-5)
    assert list(rows["KD 2→1 (1.00)"]) == pytest.approx([0.04 * s for s in heat.x], abs=1e-5)
    assert heat.zmax == -heat.zmin == pytest.approx(0.06 * 12, abs=1e-5)
    assert comparison.run_gamma(runs[2], 500) is None  # nothing moves


def test_losses_are_those_recorded(runs):
    cross_entropies, distillation = comparison.run_losses(runs[0], 500)
    assert [trace.name for trace in cross_entropies.data] == ["CE 1", "CE 2", "CE 3"]
    assert [trace.name for trace in distillation.data] == ["KD 2→1", "KD 3→1", "KD 3→2"]
    assert list(distillation.data[2].y) == pytest.approx(  # the sixth loss
        [1 / (step + 5) for step in (2, 4, 6, 8, 10, 12)], rel=1e-4
    )


@pytest.mark.parametrize(("count", "limit"), [(0, 3), (1, 3), (3, 3), (4, 3), (1000, 7)])
def test_thinning_keeps_the_last_and_the_order(count, limit):
    kept = thinned([{"step": step} for step in range(count)], limit)
    steps = [event["step"] for event in kept]
    assert len(steps) <= limit
    assert steps == sorted(set(steps))
    assert steps[-1:] == list(range(count))[-1:]
    if count <= limit:
        assert len(steps) == count
