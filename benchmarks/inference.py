"""What early exit really saves, and in which runtime: time per image, all contestants in turns.

    python benchmarks/inference.py --run runs/X        # an evaluated run, on its test images
    python benchmarks/inference.py [--preset msdnet-cifar-small]    # random weights and images

Without a run the weights are random and the thresholds such that the shares that leave at the exits
are geometric: the times mean the same, the answers nothing. Of every runtime, all stages in a row
and early exit under five budgets take turns, round after round, so that a slow moment of the
machine hits all; figures are medians over the rounds, batch by batch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from exit_subject import Subject, confidences, export, random_subject, trained_subject
from int8 import quantise

from hdkd_dist import cli
from hdkd_dist.distributed.allocation import keep_freed_memory
from hdkd_dist.inference.exported import Exported
from hdkd_dist.inference.latency import StageTimes, measure_stages, sizes_up_to
from hdkd_dist.inference.onnx_stages import CPU, OnnxStages
from hdkd_dist.inference.runtime import Compaction, EarlyExitRunner, Stages
from hdkd_dist.inference.scoring import exits_taken
from hdkd_dist.inference.torch_stages import TorchStages, fold_batch_norm

BATCHES = (1, 32, 256)
IMAGES = {1: 48, 32: 256, 256: 512}  # per measurement
BUDGETS = 5
NEVER = 2.0  # a threshold that no confidence reaches
BASE = "torch"  # what the others are compared with
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class OpenVinoStages:
    """The stages' ONNX files in OpenVINO."""

    at_a_time: int | None = None

    def __init__(self, exported: Exported, threads: int) -> None:
        import openvino

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        files = exported.stage_files()
        self.num_exits = len(files)
        self.models = [core.compile_model(file, "CPU", options) for file in files]

    def begin(self, images: np.ndarray) -> list[np.ndarray]:
        return [np.ascontiguousarray(images)]

    def run(self, k: int, state: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
        *state, logits = self.models[k](state, share_inputs=True, share_outputs=False).to_tuple()
        return state, logits

    def keep(self, state: list[np.ndarray], compaction: Compaction) -> list[np.ndarray]:
        return [compaction.apply(rows) for rows in state]


def load_runtimes(subject: Subject, folder: Path, threads: int) -> dict[str, Stages]:
    """Every runtime that is installed."""
    exported = export(subject, folder)
    loaders: dict[str, Callable[[], Stages]] = {
        BASE: lambda: TorchStages(subject.network),
        "torch folded": lambda: TorchStages(fold_batch_norm(subject.network)),
        "onnxruntime": lambda: OnnxStages(exported, threads, [CPU]),
        "openvino": lambda: OpenVinoStages(exported, threads),
        "onnxruntime int8": lambda: OnnxStages(quantise(exported, subject.images[:64]), threads),
    }
    if importlib.util.find_spec("openvino") is None:
        del loaders["openvino"]
    return {name: load() for name, load in loaders.items()}


def shares_of(subject: Subject, images: int) -> np.ndarray:
    """The shares [M, K] of the first ``images`` that leave at each exit."""
    found = confidences(subject.network, subject.images[:images], subject.temperatures)
    taken = exits_taken(found, subject.thresholds)
    exits = subject.network.num_exits
    return torch.stack([(taken == k).double().mean(dim=1) for k in range(exits)], dim=1).numpy()


def race(
    subject: Subject,
    runtimes: dict[str, Stages],
    batch: int,
    rounds: int,
    clock: Callable[[], float],
) -> tuple[list[dict], list[dict]]:
    """Rows of every runtime at five budgets in MMAC, and at five in milliseconds."""
    shares = shares_of(subject, IMAGES[batch])
    budgets = np.linspace(0, len(subject.budgets) - 1, BUDGETS + 2)[1:-1].round().astype(int)
    image_size = subject.images.shape[-1]
    at_a_time = {name: min(batch, s.at_a_time or batch) for name, s in runtimes.items()}
    before = {
        name: measure_stages(stages, image_size, sizes_up_to(at_a_time[name]), clock=clock)
        for name, stages in runtimes.items()
    }
    deadlines: dict[str, list[tuple[float, int]]] = {}
    for name, times in before.items():
        expected = [times.expected_ms(at_a_time[name], row) for row in shares]
        wanted = np.linspace(min(expected), max(expected), BUDGETS + 2)[1:-1]
        deadlines[name] = [
            (float(ms), max(p for p, e in enumerate(expected) if e <= ms)) for ms in wanted
        ]
    contestants: list[tuple[str, Callable]] = []
    for name, stages in runtimes.items():
        policies = [*budgets, *(p for _, p in deadlines[name])]
        contestants.append((name, EarlyExitRunner(stages, [NEVER] * stages.num_exits)))
        for p in policies:
            runner = EarlyExitRunner(stages, subject.thresholds[p].tolist(), subject.temperatures)
            contestants.append((name, runner))
    parts = [
        subject.images[i : i + batch]
        for i in range(0, min(IMAGES[batch], len(subject.images)), batch)
    ]
    seconds = np.zeros((rounds + 1, len(contestants), len(parts)))
    alone: dict[str, list[np.ndarray]] = {name: [] for name in runtimes}
    for turn in range(rounds + 1):
        for name, stages in runtimes.items():
            times = measure_stages(stages, image_size, [at_a_time[name]], len(parts), 0, clock)
            alone[name].append(times.rounds)
        for place, (_, contestant) in enumerate(contestants):
            for number, part in enumerate(parts):
                start = clock()
                contestant(part)
                seconds[turn, place, number] = clock() - start
    usual = 1000 * np.median(seconds[1:], axis=0).sum(axis=1) / sum(map(len, parts))
    own = {
        name: [ms for (n, _), ms in zip(contestants, usual, strict=True) if n == name]
        for name in runtimes
    }  # full, then the budgets, then the deadlines
    rows, timed = [], []
    for name in runtimes:
        full, *rest = own[name]
        size = at_a_time[name]
        stages_alone = StageTimes([size], np.concatenate(alone[name][1:], axis=1))
        rows += [
            {
                "runtime": name,
                "batch": batch,
                "budget_mmac": subject.budgets[p],
                "full_ms_per_image": full,
                "ms_per_image": ms,
                "speedup": full / ms,
                "promised": promised(stages_alone, size, shares[p]),
                "against_torch": base / ms,
            }
            for p, ms, base in zip(budgets, rest, own[BASE][1:], strict=False)
        ]
        # How much slower the machine was during the race than when the budgets were set.
        drift = stages_alone.ms_per_image(size)[-1] / before[name].ms_per_image(size)[-1]
        timed += [
            {"runtime": name, "batch": batch, "budget_ms": ms, "ms": used, "machine_drift": drift}
            for (ms, _), used in zip(deadlines[name], rest[BUDGETS:], strict=True)
        ]
    return rows, timed


def promised(times: StageTimes, batch: int, shares: np.ndarray) -> float:
    """The speed-up if every stage took its time per image at this batch size, with no overhead."""
    stages = times.of_batch([batch] * len(shares))
    reach = 1 - np.concatenate([[0.0], shares.cumsum()[:-1]])
    return float(stages.sum() / (stages * reach).sum())


def processor() -> str:
    """The processor's name, as Linux gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main(
    run: str | None = None,
    data: str | None = None,
    preset: str = "msdnet-cifar-small",
    rounds: int = 7,
    threads: int = 1,
    clock: str = "wall",
    json_file: str | None = None,
) -> None:
    """Measure all runtimes that are installed.

    Args:
        run: the folder of an evaluated run.
        data: its prepared data set, if it is not where it was.
        preset: without a run, the network.
        rounds: measurements of each figure.
        threads: of each runtime.
        clock: wall, or cpu: the process's own time, for one thread on a core that others use too.
        json_file: also write everything there.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    most = max(IMAGES.values())
    subject = trained_subject(Path(run), data, most) if run else random_subject(preset, most)
    print(
        f"{subject.name}; {rounds} rounds, {threads} threads of {os.cpu_count()}, {clock} time, "
        f"{processor()}"
    )
    report: dict[str, list[dict]] = {"budgets": [], "deadlines": []}
    with tempfile.TemporaryDirectory() as folder:
        runtimes = load_runtimes(subject, Path(folder), threads)
        for batch in BATCHES:
            rows, timed = race(subject, runtimes, batch, rounds, CLOCKS[clock])
            print_tables(rows, timed)
            report["budgets"] += rows
            report["deadlines"] += timed
    if json_file:
        Path(json_file).write_text(json.dumps(report, indent=1) + "\n")


def print_tables(rows: Sequence[dict], timed: Sequence[dict]) -> None:
    """For people."""
    print(
        f"{'runtime':>16} {'batch':>5} {'budget MMAC':>11} {'full ms':>8} {'ms':>8} "
        f"{'speed-up':>8} {'promised':>8} {'kept':>5} {'against torch':>13}"
    )
    for row in rows:
        print(
            f"{row['runtime']:>16} {row['batch']:5} {row['budget_mmac']:11.2f} "
            f"{row['full_ms_per_image']:8.3f} {row['ms_per_image']:8.3f} {row['speedup']:8.2f} "
            f"{row['promised']:8.2f} {row['speedup'] / row['promised']:5.0%} "
            f"{row['against_torch']:13.2f}"
        )
    print(f"{'runtime':>16} {'batch':>5} {'budget ms':>9} {'ms':>8} {'of it':>5} {'drift':>5}")
    for row in timed:
        print(
            f"{row['runtime']:>16} {row['batch']:5} {row['budget_ms']:9.3f} {row['ms']:8.3f} "
            f"{row['ms'] / row['budget_ms']:5.0%} {row['machine_drift']:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    cli.run(main)
