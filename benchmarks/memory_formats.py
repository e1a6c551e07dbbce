"""Time a plain training step by the memory format of feature maps and weights, on a CPU.

    python benchmarks/memory_formats.py [--preset msdnet-cifar-5] [--batch 64] [--rounds 2]

The formats take turns, several steps each, on one thread and on two: a slow minute hits all alike.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import torch
from plain_formulation import with_format_kept
from torch.nn.functional import cross_entropy

from hdkd_dist import cli
from hdkd_dist.distributed.allocation import keep_freed_memory
from hdkd_dist.models import build, resolve
from hdkd_dist.training.engine import channels_last_weights

CLASSES = 100
AS_BUILT = "as built"  # the network chooses
FORMATS = (AS_BUILT, "contiguous", "channels last", "channels last, weights too")


def stepper(preset: str, batch: int, form: str) -> Callable[[], None]:
    """A plain training step of the network in one of the formats."""
    torch.manual_seed(0)
    network = build(preset, CLASSES).train()
    side = resolve(preset, {}).input_size
    images, labels = torch.randn(batch, 3, side, side), torch.randint(CLASSES, (batch,))
    if form != AS_BUILT:
        network = with_format_kept(network)
    if form.startswith("channels last"):
        images = images.contiguous(memory_format=torch.channels_last)
    if form.endswith("weights too"):
        channels_last_weights(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss = sum(cross_entropy(logits, labels) for logits in network(images))
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None], times: int) -> list[float]:
    """Measure each of some steps."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        step()
        found.append(time.perf_counter() - start)
    return found


def main(preset: str = "msdnet-cifar-5", batch: int = 64, rounds: int = 2, steps: int = 8) -> None:
    """Print one JSON line per number of threads and format.

    Args:
        preset: the network.
        batch: images of a step.
        rounds: how often each format has its turn.
        steps: of a turn, after two that are not measured.
    """
    keep_freed_memory()  # as training does
    each = {form: stepper(preset, batch, form) for form in FORMATS}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times: dict[str, list[float]] = {form: [] for form in FORMATS}
        for _ in range(rounds):
            for form, step in each.items():
                seconds(step, 2)
                times[form] += seconds(step, steps)
        for form, found in times.items():
            row = {"threads": threads, "format": form, "least_ms": 1e3 * min(found)}
            print(json.dumps({**row, "median_ms": 1e3 * statistics.median(found)}), flush=True)


if __name__ == "__main__":
    cli.run(main)
