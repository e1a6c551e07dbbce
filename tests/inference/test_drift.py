"""Drift is found where images have changed, and not where they have not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from hdkd_dist.inference import drift
from hdkd_dist.inference.exported import Exported
from hdkd_dist.inference.policy import thresholds_of_exit
from hdkd_dist.inference.preprocessing import Preprocessing
from hdkd_dist.inference.runtime import confidence_histogram

COSTS = [1.0, 2.0, 4.0]
SHARES = [0.5, 0.3, 0.2]
BUDGET = float(np.dot(SHARES, COSTS))
THRESHOLDS = [0.8, 0.7, 0.0]
VALIDATION = 5_000


def confidences(images: int, seed: int, power: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).beta(5, 1, images) ** power


@pytest.fixture
def exported(tmp_path) -> Exported:
    histogram = confidence_histogram(confidences(VALIDATION, 0)).tolist()
    row = {
        "budget_mmac": BUDGET,
        "thresholds": THRESHOLDS,
        "val_shares": SHARES,
        "val_histogram": histogram,
    }
    return Exported(
        folder=tmp_path,
        model={"preset": "made up"},
        classes=["a", "b"],
        preprocessing=Preprocessing(8, 1.0, None, [0.5] * 3, [0.5] * 3),
        temperatures=[1.0] * 3,
        exits=[{"mmac": cost} for cost in COSTS],
        budgets=[row],
        validation={"images": VALIDATION, "histograms": [histogram] * 3},
        sha256={},
    )


def exits(images: int, shares, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(3, images, p=shares) + 1


def test_images_of_the_same_kind_are_seldom_called_drift(exported):
    reference = drift.find_reference(exported, THRESHOLDS)
    alarms = np.zeros((100, 3))
    for seed in range(100):
        taken = exits(300, SHARES, seed)
        shares = confidence_histogram(confidences(300, 1 + seed))
        alarms[seed] = (
            drift.compare(np.bincount(taken - 1, minlength=3), SHARES, VALIDATION).changed,
            drift.compare(shares * 300, reference.histogram, VALIDATION).changed,
            not drift.compare_cost(taken, COSTS, reference).holds,
        )
    assert (alarms.mean(axis=0) <= 0.04).all()  # 0.01 is promised


@pytest.mark.parametrize("seed", range(5))
def test_harder_images_are_drift_and_break_the_budget(exported, seed):
    reference = drift.find_reference(exported, THRESHOLDS)
    taken = exits(300, [0.3, 0.3, 0.4], seed)
    found = drift.compare(np.bincount(taken - 1, minlength=3), SHARES, VALIDATION)
    assert found.changed
    assert found.distance == pytest.approx(0.2, abs=0.1)
    cost = drift.compare_cost(taken, COSTS, reference)
    assert not cost.holds
    assert cost.live == pytest.approx(0.3 + 0.6 + 1.6, abs=0.3)
    shares = confidence_histogram(confidences(300, seed + 1, power=3))
    assert drift.compare(shares * 300, reference.histogram, VALIDATION).changed


@pytest.mark.parametrize("leaving", [140, 150, 163, 170])
def test_chance_of_two_bins_is_that_of_the_chi_squared_test(leaving):
    """With two bins both order all tables alike."""
    counts = np.array([leaving, 300 - leaving])
    table = [counts, [VALIDATION / 2] * 2]
    found = drift.compare(counts, [0.5, 0.5], VALIDATION).p
    assert found == pytest.approx(chi2_contingency(table, correction=False).pvalue, abs=0.04)


def test_easier_images_are_drift_but_keep_the_budget(exported):
    reference = drift.find_reference(exported, THRESHOLDS)
    taken = exits(500, [0.8, 0.1, 0.1], 0)
    assert drift.compare(np.bincount(taken - 1, minlength=3), SHARES, VALIDATION).changed
    assert drift.compare_cost(taken, COSTS, reference).holds


def test_a_fixed_exit_is_a_policy_too(exported):
    reference = drift.find_reference(exported, thresholds_of_exit(1, 3))
    assert reference.shares == [0, 1, 0]
    assert reference.budget_mmac == 2
    with pytest.raises(ValueError, match="another model's"):
        drift.find_reference(exported, [0.8, 0.71, 0.0])


def write(file, taken, certain, thresholds=THRESHOLDS):
    lines = [
        {"image": "x", "class": "a", "index": 0, "confidence": float(c), "exit": int(k)}
        for k, c in zip(taken, certain, strict=True)
    ]
    lines.append({"image": "y", "skipped": "not an image"})
    if thresholds:
        lines.append({"summary": {"thresholds": thresholds}})
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_command_reports_and_its_status_says_whether(exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(drift, "load_exported", lambda _: exported)
    same, hard, bare = (tmp_path / name for name in ("same", "hard", "bare"))
    write(same, exits(400, SHARES, 1), confidences(400, 2))
    write(hard, exits(400, [0.2, 0.2, 0.6], 1), confidences(400, 2))
    write(bare, exits(400, SHARES, 1), confidences(400, 2), thresholds=None)
    drift.main(Path("model"), same)
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["images"], found["skipped"]) == (400, 1)
    assert found["mmac"]["holds"]
    assert printed.err.startswith("no drift, and the budget holds")
    with pytest.raises(SystemExit) as stop:
        drift.main(Path("model"), hard)
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "drift: images leave elsewhere, the budget is exceeded (2.942 against 1.9 "
    )
    with pytest.raises(ValueError, match="no summary line"):
        drift.main(Path("model"), bare)
    drift.main(Path("model"), bare, budget_mmac=BUDGET)
    with pytest.raises(SystemExit):
        drift.main(Path("model"), bare, exit=1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not of predict.py"),
        ("[1]", "line 2"),
        ('{"exit": 4, "confidence": 0.5}', "exit 4 of a model with 3"),
        ('{"exit": 1, "confidence": NaN}', "confidence is nan"),
        ('{"exit": 1}', "no 'confidence'"),
        ('{"summary": {"thresholds": [1]}}\n{"summary": {"thresholds": [2]}}', "line 3"),
        ("[" * 100_000, "line 2"),
    ],
)
def test_lines_of_others_are_refused(tmp_path, line, said):
    file = tmp_path / "lines"
    file.write_text(f'{{"exit": 1, "confidence": 0.5}}\n{line}\n')
    with pytest.raises(ValueError, match=said):
        drift.read_live(file, 3)


def test_no_file_and_no_answer(tmp_path):
    with pytest.raises(ValueError, match="is no file"):
        drift.read_live(tmp_path, 3)
    (tmp_path / "empty").write_text("")
    with pytest.raises(ValueError, match="holds no answer"):
        drift.read_live(tmp_path / "empty", 3)
