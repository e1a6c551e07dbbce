"""Parts of gpu.py that measure: time, memory and kernels of the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from gpu_setup import (
    UNTIMED,
    Batch,
    algorithm_on,
    device_of,
    milliseconds,
    random_batch,
    say,
    wait,
)

from hdkd_dist.method.algorithm import Algorithm


def speed(rehearse: bool) -> None:
    """Time and memory of plain and HDKD steps by micro-batch, as graphs and without."""
    device = device_of(rehearse)
    preset = "msdnet-digits" if rehearse else "msdnet-imagenet-4"
    times = 2 if rehearse else 10
    cases = [(256, True), (512, True), (128, True), (64, True), (256, False), (64, False)]
    for size, graphs in [(16, True), (16, False)] if rehearse else cases:
        algorithm = algorithm_on(device, preset, graphs=graphs)
        batch = random_batch(device, preset, size)

        def plain(algorithm: Algorithm = algorithm, batch: Batch = batch) -> None:
            algorithm.train_step(batch)

        def with_gamma(algorithm: Algorithm = algorithm, batch: Batch = batch) -> None:
            algorithm.step(batch, batch, 0.01)

        found = {}
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        for name, run in (("plain", plain), ("gamma", with_gamma)):
            for _ in range(UNTIMED):
                run()
            row = {"ms": milliseconds(run, device, times), **device_figures(run, device)}
            found[name] = row["ms"]
            rate = 1e3 * size / row["ms"]
            say(micro_batch=size, graphs=graphs, step=name, images_per_s=rate, **row)
        default = (found["plain"] + found["gamma"]) / 2
        row = {"micro_batch": size, "graphs": graphs, "step": "hdkd, γ every 2", "ms": default}
        say(**row, images_per_s=1e3 * size / default, to_plain=default / found["plain"])
        del algorithm, plain, with_gamma, run


def device_figures(run: Callable[[], None], device: torch.device) -> dict[str, float]:
    """Measure what the host needs to start a step, and the peak of memory; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    start = time.perf_counter()
    run()  # into an empty queue
    host = 1e3 * (time.perf_counter() - start)
    return {"host_ms": host, "peak_gb": torch.cuda.max_memory_reserved(device) / 1e9}


@contextmanager
def traced(device: torch.device) -> Iterator[Any]:
    """Open a profile of host and device."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        yield profile
        wait(device)


def profile(rehearse: bool) -> None:
    """How many kernels a plain step and a γ step have, how long they take, and which the most."""
    device = device_of(rehearse)
    preset, size = ("msdnet-digits", 16) if rehearse else ("msdnet-imagenet-4", 256)
    algorithm, batch = algorithm_on(device, preset), random_batch(device, preset, size)
    for _ in range(UNTIMED):
        algorithm.step(batch, batch, 0.01)
    steps = {
        "plain": lambda: algorithm.train_step(batch),
        "gamma": lambda: algorithm.step(batch, batch, 0.01),
    }
    kind = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    for step, run in steps.items():
        with traced(device) as found:
            run()
        kernels = [event for event in found.events() if event.device_type.name == "CUDA"]
        spent = sum(event.device_time for event in kernels) / 1e3
        say(step=step, kernels=len(kernels), device_ms=spent)
        rows = found.key_averages()
        rows = sorted(rows, key=lambda row: getattr(row, kind), reverse=True)
        for row in rows[:25]:
            say(step=step, name=row.key[:110], calls=row.count, ms=getattr(row, kind) / 1e3)


def compile(rehearse: bool) -> None:
    """A plain step with torch.compile: seconds to compile, and what it gains."""
    device = device_of(rehearse)
    preset, size = ("msdnet-digits", 16) if rehearse else ("msdnet-imagenet-4", 128)
    algorithm, batch = algorithm_on(device, preset), random_batch(device, preset, size)

    def step() -> None:
        algorithm.train_step(batch)

    step()
    eager = milliseconds(step, device, 2 if rehearse else 10)
    algorithm.engine.module.compile()
    seconds = milliseconds(step, device, 1) / 1e3
    step()
    compiled = milliseconds(step, device, 2 if rehearse else 10)
    say(seconds_to_compile=seconds, eager_ms=eager, compiled_ms=compiled)
