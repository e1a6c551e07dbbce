"""How long the searches for thresholds take, against the usual loop over samples.

python benchmarks/threshold_search.py
"""

from __future__ import annotations

import statistics
import time

import torch

from hdkd_dist import cli
from hdkd_dist.evaluation.thresholds import SEARCHES, budgets_between, geometric_shares
from hdkd_dist.inference.confidence import Judged
from hdkd_dist.inference.scoring import score

SEARCH_IMAGES, SEARCH_EXITS, SEARCH_BUDGETS = 50_000, 8, 40


def measure_search() -> dict[str, float]:
    """The searches for 50,000 images, 8 exits and 40 budgets, and geometric's as a plain loop."""
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(SEARCH_EXITS, SEARCH_IMAGES, generator=generator)
    right = confidence > torch.rand(SEARCH_EXITS, SEARCH_IMAGES, generator=generator)
    split = Judged(confidence, confidence, right, right)
    costs = list(range(1, SEARCH_EXITS + 1))
    budgets = budgets_between(costs, SEARCH_BUDGETS + 2)[1:-1]
    seconds, scores = {}, {}
    for name, search in SEARCHES.items():
        found = []
        for _ in range(3):
            start = time.perf_counter()
            scores[name] = score(split, costs, search(split, costs, budgets))
            found.append(time.perf_counter() - start)
        seconds[name] = statistics.median(found)
    lists = confidence.tolist(), right.tolist(), geometric_shares(costs, budgets).tolist()
    start = time.perf_counter()
    looped = loop_search(*lists, costs)
    loop_seconds = time.perf_counter() - start
    both = torch.stack([scores["geometric"].cost, scores["geometric"].top1], dim=1)
    assert torch.allclose(both, torch.tensor(looped, dtype=torch.float64)), "the loop differs"
    return {
        "seconds": seconds["geometric"],
        "loop_seconds": loop_seconds,
        "direct_seconds": seconds["direct"],
    }


def loop_search(
    confidence: list[list[float]],
    right: list[list[bool]],
    shares: list[list[float]],
    costs: list[float],
) -> list[tuple[float, float]]:
    """The geometric search and its scores as they are usually written: sample by sample."""
    exits, images = len(confidence), len(confidence[0])
    orders = [sorted(range(images), key=row.__getitem__, reverse=True) for row in confidence]
    found = []
    for row in shares:
        left = [False] * images
        thresholds, until, before = [], 0.0, 0
        for k in range(exits - 1):
            until += row[k]
            wanted, count, threshold = round(until * images) - before, 0, 2.0
            before += wanted
            for sample in orders[k]:
                if count == wanted:
                    break
                if not left[sample]:
                    left[sample] = True
                    count += 1
                    threshold = confidence[k][sample]
            thresholds.append(threshold)
        cost, correct = 0.0, 0
        for sample in range(images):
            for k in range(exits):
                if k + 1 == exits or confidence[k][sample] >= thresholds[k]:
                    cost += costs[k]
                    correct += right[k][sample]
                    break
        found.append((cost / images, 100 * correct / images))
    return found


def main(threads: int = 1) -> None:
    """Measure and print.

    Args:
        threads: of torch.
    """
    torch.set_num_threads(threads)
    found = measure_search()
    print(
        f"search and score, {SEARCH_IMAGES} images × {SEARCH_EXITS} exits × {SEARCH_BUDGETS} "
        f"budgets: geometric {found['seconds']:.2f} s, as a loop {found['loop_seconds']:.1f} s; "
        f"direct {found['direct_seconds']:.2f} s"
    )


if __name__ == "__main__":
    cli.run(main)
