"""Pictures of an evaluation, from made-up outputs."""

from __future__ import annotations

import matplotlib.image
import torch
from exits import COSTS, outputs

from hdkd_dist.evaluation import figures
from hdkd_dist.evaluation.measures import anytime_rows, budgeted_results, evaluate_outputs
from hdkd_dist.models import ExitCosts
from hdkd_dist.runs.pictures import draw_accuracy


def test_every_picture_shows_something(tmp_path):
    made = [outputs(600, seed=seed) for seed in (0, 1)]
    evaluation = evaluate_outputs(ExitCosts(COSTS, [10, 20, 30, 40]), *made)
    results = {"exits": anytime_rows(evaluation), **budgeted_results(evaluation)}
    rows = results["budgeted"]
    files = {
        name: tmp_path / f"{name}.png" for name in ("anytime", "budget", "taken", "sure", "grid")
    }
    draw_accuracy(results["exits"], 600, "a network", files["anytime"])
    figures.draw_budgeted(results, evaluation.test, "a network", files["budget"])
    figures.draw_exits_taken(rows, "a network", files["taken"])
    assert figures.draw_reliability(evaluation, "a network", files["sure"])
    drawn = figures.draw_easy_and_hard(
        evaluation,
        rows[len(rows) // 2],
        [f"class_{k}" for k in range(10)],
        lambda places: torch.randint(256, (len(places), 3, 8, 8)).byte(),
        files["grid"],
    )
    assert drawn
    for file in files.values():
        assert matplotlib.image.imread(file)[..., :3].std() > 0.05  # not one colour


def test_too_few_images_give_no_reliability_diagram(tmp_path):
    made = [outputs(15, seed=seed) for seed in (0, 1)]
    evaluation = evaluate_outputs(ExitCosts(COSTS, [10, 20, 30, 40]), *made)

    assert not figures.draw_reliability(evaluation, "a network", tmp_path / "sure.png")
    assert not list(tmp_path.iterdir())


def test_easy_images_leave_first_and_hard_ones_last():
    made = [outputs(2000, seed=seed) for seed in (0, 1)]
    evaluation = evaluate_outputs(ExitCosts(COSTS, [10, 20, 30, 40]), *made)
    row = budgeted_results(evaluation)["budgeted"][20]
    chosen = figures.easy_and_hard(evaluation, row["thresholds"])
    assert chosen
    first = evaluation.test.confidence[0]
    for label, easy, hard in chosen:
        assert {int(made[1].labels[place]) for place in (*easy, *hard)} == {label}
        assert min(first[easy]) >= row["thresholds"][0] > max(first[hard])
