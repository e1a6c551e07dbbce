"""What early exit really saves: time of the runtime against the full network, and of the search.

    python benchmarks/inference.py --run runs/X        # an evaluated run, on its test images
    python benchmarks/inference.py [--preset msdnet-cifar-small]    # random weights and images

Without a run the weights are random and the thresholds such that the shares that leave at the exits
are geometric: the times mean the same, the answers nothing. The stages alone, the full network and
the runtime take turns on the same batches, so that a slow moment of the machine hits all; figures
are medians. "drift" is how much slower the machine was during the race than when the stages were
timed for the budgets in milliseconds.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hdkd_dist import cli
from hdkd_dist.evaluation.thresholds import SEARCHES, budgets_between, geometric, geometric_shares
from hdkd_dist.inference.allocation import keep_freed_memory
from hdkd_dist.inference.confidence import Judged, top_probability
from hdkd_dist.inference.latency import StageTimes, measure_stages, sizes_up_to
from hdkd_dist.inference.policy import exits_taken, score
from hdkd_dist.inference.runtime import EarlyExitRunner
from hdkd_dist.models import MultiExitNetwork, build, exit_costs, resolve
from hdkd_dist.runs.results import read_results

BATCHES = (1, 32, 256)
IMAGES = {1: 64, 32: 512, 256: 1024}  # per measurement
BUDGETS = 5
SEARCH_IMAGES, SEARCH_EXITS, SEARCH_BUDGETS = 50_000, 8, 40


@dataclass(frozen=True)
class Subject:
    """What is measured: a network, images [N, 3, H, W], and policies for rising costs."""

    name: str
    network: MultiExitNetwork
    image_size: int
    images: Tensor
    mmac: Sequence[float]
    temperatures: Sequence[float]
    budgets: Sequence[float]  # [M], MMAC
    thresholds: Tensor  # [M, K]


def random_subject(preset: str) -> Subject:
    """Random weights and images."""
    torch.manual_seed(0)
    network = build(preset).eval()
    size = resolve(preset, {}).input_size
    images = torch.randn(max(IMAGES.values()), 3, size, size)
    mmac = exit_costs(network, size).mmac
    budgets = budgets_between(mmac)
    confidence, _ = top_probability(full_outputs(network, images))
    return Subject(
        f"{preset}, random",
        network,
        size,
        images,
        mmac,
        [1.0] * network.num_exits,
        budgets.tolist(),
        geometric(confidence, mmac, budgets),
    )


def trained_subject(run: Path, data: str | None) -> Subject:
    """An evaluated run, its test images and the thresholds found on validation."""
    from hdkd_dist.data.normalize import Normalize
    from hdkd_dist.data.streams import ReadOptions, SplitReader
    from hdkd_dist.evaluation.evaluate_run import manifest_of
    from hdkd_dist.runs.network import load_network, read_run

    config, manifest, results = read_run(run), manifest_of(run, data), read_results(run)
    if "budgeted" not in results:
        raise ValueError(
            f"{run} has no thresholds yet: run hdkd_dist/evaluate.py --run {run} first"
        )
    model = config["hdkd"]["model"]
    size = resolve(model["preset"], model["overrides"]).input_size
    reading = ReadOptions(torch.device("cpu"))
    reader = SplitReader(
        manifest, "test", image_size=size, batch=256, reading=reading, augment=False
    )
    wanted = min(max(IMAGES.values()), reader.samples)
    order = np.random.default_rng(0).permutation(reader.samples)[:wanted]
    images = torch.cat([part.images for part in reader.read(order)])
    normalize = Normalize.of(manifest.image["mean"], manifest.image["std"], "cpu")
    rows = results["budgeted"]
    return Subject(
        f"{run.name}, {model['preset']}",
        load_network(run, config, len(manifest.classes)),
        size,
        normalize(images),
        [row["mmac"] for row in results["exits"]],
        results["confidence"]["temperatures"],
        [row["budget_mmac"] for row in rows],
        torch.tensor([row["thresholds"] for row in rows]),
    )


@torch.inference_mode()
def full_outputs(network: MultiExitNetwork, images: Tensor) -> Tensor:
    """Logits [K, N, C]."""
    return torch.cat([network(part) for part in images.split(256)], dim=1)


def shares_of(subject: Subject, images: Tensor) -> Tensor:
    """The shares [M, K] of ``images`` that really leave at each exit."""
    temperatures = torch.tensor(subject.temperatures)[:, None, None]
    confidence, _ = top_probability(full_outputs(subject.network, images), temperatures)
    taken = exits_taken(confidence, subject.thresholds)
    exits = subject.network.num_exits
    return torch.stack([(taken == k).double().mean(dim=1) for k in range(exits)], dim=1)


@dataclass(frozen=True)
class Race:
    """Measured in turns.

    Each batch counts with its median over the rounds: a sum of raw times would take in every
    interruption by other work, which medians of single stages leave out.
    """

    full: float  # seconds per image of the full network
    policies: list[float]  # seconds per image of the runtime
    stages: StageTimes  # of whole batches


@torch.inference_mode()
def race(subject: Subject, batch: int, policies: Sequence[int], rounds: int) -> Race:
    """Let the stages alone, the full network and the runtime take turns on the same images."""
    images = subject.images[: IMAGES[batch]].split(batch)
    runners = [
        EarlyExitRunner(subject.network, subject.thresholds[p].tolist(), subject.temperatures)
        for p in policies
    ]
    contestants = [subject.network, *runners]
    seconds = np.zeros((rounds + 1, len(contestants), len(images)))
    stages = []
    for turn in range(rounds + 1):
        stages.append(
            measure_stages(subject.network, subject.image_size, [batch], len(images), seconds=0)
        )
        for place, contestant in enumerate(contestants):
            for number, part in enumerate(images):
                start = time.perf_counter()
                contestant(part)
                seconds[turn, place, number] = time.perf_counter() - start
    usual = np.median(seconds[1:], axis=0).sum(axis=1) / sum(map(len, images))  # the first warms up
    alone = np.median([each.seconds for each in stages[1:]], axis=0)
    return Race(usual[0], usual[1:].tolist(), StageTimes([batch], alone))


def measure_batch(subject: Subject, batch: int, rounds: int) -> tuple[list[dict], list[dict]]:
    """Rows of the runtime at five budgets in MMAC, and at five in milliseconds."""
    times = measure_stages(subject.network, subject.image_size, sizes_up_to(batch))
    shares = shares_of(subject, subject.images[: IMAGES[batch]])
    positions = np.linspace(0, len(subject.budgets) - 1, BUDGETS + 2)[1:-1].round().astype(int)
    expected = [times.expected_ms(batch, row.tolist()) for row in shares]
    budgets_ms = np.linspace(min(expected), max(expected), BUDGETS + 2)[1:-1]
    in_time = [max(p for p, ms in enumerate(expected) if ms <= budget) for budget in budgets_ms]
    result = race(subject, batch, [*positions, *in_time], rounds)
    rows = []
    for p, seconds in zip(positions, result.policies, strict=False):
        mmac = float(shares[p] @ torch.tensor(subject.mmac, dtype=torch.float64))
        rows.append(
            {
                "batch": batch,
                "budget_mmac": subject.budgets[p],
                "speedup": result.full / seconds,
                "promised_by_latency": promised_by_latency(result.stages, batch, shares[p]),
                "promised_by_mmac": subject.mmac[-1] / mmac,
                "ms_per_image": 1000 * seconds,
                "full_ms_per_image": 1000 * result.full,
            }
        )
    # How much slower the machine was during the race than when the budgets were set.
    drift = result.stages.ms_per_image(batch)[-1] / times.ms_per_image(batch)[-1]
    deadlines = [
        {
            "batch": batch,
            "budget_ms": float(budget),
            "ms": 1000 * seconds,
            "machine_drift": drift,
        }
        for budget, seconds in zip(budgets_ms, result.policies[BUDGETS:], strict=True)
    ]
    return rows, deadlines


def promised_by_latency(times: StageTimes, batch: int, shares: Tensor) -> float:
    """The speed-up if every stage took its time per image at this batch size, with no overhead."""
    stages = times.of_batch([batch] * len(shares))
    reach = 1 - torch.cat([torch.zeros(1), shares.cumsum(0)[:-1]]).numpy()
    return float(stages.sum() / (stages * reach).sum())


@torch.inference_mode()
def profile_of_one(subject: Subject, rounds: int = 200) -> dict[str, float]:
    """Where the milliseconds of a batch of 1 go when it runs to the last exit."""
    image = subject.images[:1]
    exits = subject.network.num_exits
    runner = EarlyExitRunner(subject.network, [2.0] * exits, subject.temperatures)
    parts: dict[str, list[float]] = {"network": [], "runtime": [], "confidence": []}
    logits = subject.network(image)[0]
    for _ in range(rounds):
        marks = [time.perf_counter()]
        subject.network(image)
        marks.append(time.perf_counter())
        runner(image)
        marks.append(time.perf_counter())
        for temperature in subject.temperatures:
            confidence, _ = top_probability(logits, temperature)
            (confidence < 0).nonzero()
        marks.append(time.perf_counter())
        for part, passed in zip(parts.values(), np.diff(marks), strict=True):
            part.append(1000 * passed)
    return {name: statistics.median(part) for name, part in parts.items()}


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


def main(
    run: str | None = None,
    data: str | None = None,
    preset: str = "msdnet-cifar-small",
    rounds: int = 7,
    threads: int = 1,
    json: bool = False,
) -> None:
    """Measure runtime and search.

    Args:
        run: the folder of an evaluated run.
        data: its prepared data set, if it is not where it was.
        preset: without a run, the network.
        rounds: measurements of each figure.
        threads: of torch.
        json: print one JSON object as the last line.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    subject = trained_subject(Path(run), data) if run else random_subject(preset)
    report: dict = {
        "runtime": [],
        "deadlines": [],
        "setup": {
            "subject": subject.name,
            "rounds": rounds,
            "threads": threads,
            "cores": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
        },
    }
    for batch in BATCHES:
        rows, deadlines = measure_batch(subject, batch, rounds)
        report["runtime"] += rows
        report["deadlines"] += deadlines
    report["profile_of_one_ms"] = profile_of_one(subject)
    report["search"] = measure_search()
    print_tables(report)
    if json:
        print_json(report)


def print_tables(report: dict) -> None:
    """For people."""
    print(", ".join(f"{key} {value}" for key, value in report["setup"].items()))
    print(
        f"{'batch':>6} {'budget MMAC':>12} {'full ms':>8} {'ms':>8} {'speed-up':>9} "
        f"{'by latency':>11} {'kept':>6} {'by MMAC':>8}"
    )
    for row in report["runtime"]:
        kept = row["speedup"] / row["promised_by_latency"]
        print(
            f"{row['batch']:6} {row['budget_mmac']:12.2f} {row['full_ms_per_image']:8.3f} "
            f"{row['ms_per_image']:8.3f} {row['speedup']:9.2f} {row['promised_by_latency']:11.2f} "
            f"{kept:6.0%} {row['promised_by_mmac']:8.2f}"
        )
    print(
        f"{'batch':>6} {'budget ms':>10} {'ms':>8} {'of it':>6} {'drift':>6} {'without drift':>14}"
    )
    for row in report["deadlines"]:
        print(
            f"{row['batch']:6} {row['budget_ms']:10.3f} {row['ms']:8.3f} "
            f"{row['ms'] / row['budget_ms']:6.0%} {row['machine_drift']:6.2f} "
            f"{row['ms'] / row['budget_ms'] / row['machine_drift']:14.0%}"
        )
    profile = ", ".join(f"{name} {ms:.3f} ms" for name, ms in report["profile_of_one_ms"].items())
    print(f"one image through all exits: {profile}")
    search = report["search"]
    print(
        f"search and score, {SEARCH_IMAGES} images × {SEARCH_EXITS} exits × {SEARCH_BUDGETS} "
        f"budgets: geometric {search['seconds']:.2f} s, as a loop {search['loop_seconds']:.1f} s; "
        f"direct {search['direct_seconds']:.2f} s"
    )


def print_json(report: dict) -> None:
    """For machines."""
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
