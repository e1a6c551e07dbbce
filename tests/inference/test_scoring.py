"""Scores of exit policies against a loop over samples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from exits import COSTS, split

from hdkd_dist.inference.runtime import CONFIDENCE_EDGES
from hdkd_dist.inference.scoring import exits_taken, oracle, score

THRESHOLDS = torch.tensor(
    [[0.6, 0.5, 0.4, 0.0], [2.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.9, 0.2, 2.0, 9.0]]
)


def test_scores_equal_those_of_a_loop():
    made = split(300, seed=0)
    found = score(made, COSTS, THRESHOLDS)
    for m, thresholds in enumerate(THRESHOLDS.tolist()):
        cost = right = right5 = 0
        left, confidences = [0] * 4, []
        for n in range(300):
            for k in range(4):
                if k == 3 or float(made.confidence[k, n]) >= thresholds[k]:
                    break
            cost += COSTS[k]
            right += int(made.top1[k, n])
            right5 += int(made.top5[k, n])
            left[k] += 1
            confidences.append(float(made.confidence[k, n]))
        assert float(found.cost[m]) == pytest.approx(cost / 300)
        assert float(found.top1[m]) == pytest.approx(right / 3)
        assert float(found.top5[m]) == pytest.approx(right5 / 3)
        assert found.shares[m].tolist() == pytest.approx([each / 300 for each in left])
        counts, _ = np.histogram(confidences, [0.0, *CONFIDENCE_EDGES, 1.0])
        assert found.histogram[m].tolist() == pytest.approx((counts / 300).tolist())


def test_a_confidence_that_equals_the_threshold_leaves():
    confidence = torch.tensor([[0.5, 0.4], [0.1, 0.1]])
    assert exits_taken(confidence, torch.tensor([0.5, 7.0])).tolist() == [0, 1]


def test_oracle_is_the_best_of_all_assignments():
    top1 = torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 1]]).bool()
    costs, accuracies = oracle(top1, COSTS)
    best = {}
    for choice in itertools.product(range(4), repeat=5):
        cost = sum(COSTS[k] for k in choice) / 5
        right = sum(int(top1[k, n]) for n, k in enumerate(choice)) * 20
        best[cost] = max(best.get(cost, 0), right)
    for cost, accuracy in zip(costs.tolist(), accuracies.tolist(), strict=True):
        reachable = max(a for c, a in best.items() if c <= cost + 1e-9)
        assert accuracy == pytest.approx(reachable)
    assert accuracies[-1] == 80
