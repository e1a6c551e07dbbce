"""Parts of gpu.py that measure: time, kernels and memory of the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from gpu_setup import (
    Batch,
    algorithm_on,
    device_of,
    error,
    milliseconds,
    random_batch,
    say,
    wait,
)
from torch import Tensor

from hdkd_dist.method.algorithm import Algorithm
from hdkd_dist.method.hypergradient import jvp, metaval_gradient
from hdkd_dist.method.objective import cross_entropies


def speed(rehearse: bool) -> None:
    """Time, kernels and memory of plain and HDKD steps by micro-batch."""
    device = device_of(rehearse)
    preset = "msdnet-digits" if rehearse else "msdnet-imagenet-4"
    times = 2 if rehearse else 10
    for size in (16,) if rehearse else (256, 64, 128, 512):
        algorithm, batch = algorithm_on(device, preset), random_batch(device, preset, size)

        def plain(algorithm: Algorithm = algorithm, batch: Batch = batch) -> None:
            algorithm.train_step(batch)

        def with_gamma(algorithm: Algorithm = algorithm, batch: Batch = batch) -> None:
            algorithm.step(batch, batch, 0.01)

        found = {}
        for name, run in (("plain", plain), ("gamma", with_gamma)):
            for _ in range(3):
                run()
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            row = {"ms": milliseconds(run, device, times), **device_figures(run, device)}
            found[name] = row["ms"]
            say(micro_batch=size, step=name, images_per_s=1e3 * size / row["ms"], **row)
        default = (found["plain"] + found["gamma"]) / 2
        say(micro_batch=size, step="hdkd, γ every 2", ms=default, to_plain=default / found["plain"])


def device_figures(run: Callable[[], None], device: torch.device) -> dict[str, float]:
    """Count a step's kernels and their time, and the peak of memory; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    start = time.perf_counter()
    run()  # an empty queue: what the host needs to fill it
    host = 1e3 * (time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) / 1e9
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        wait(device)
    kernels = [event for event in profile.events() if event.device_type.name == "CUDA"]
    busy = sum(event.device_time for event in kernels) / 1e3
    return {"host_ms": host, "device_ms": busy, "kernels": len(kernels), "peak_gb": peak}


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
    """The kernels that take the most of a γ step."""
    device = device_of(rehearse)
    preset, size = ("msdnet-digits", 16) if rehearse else ("msdnet-imagenet-4", 128)
    algorithm, batch = algorithm_on(device, preset), random_batch(device, preset, size)
    for _ in range(3):
        algorithm.step(batch, batch, 0.01)
    with traced(device) as found:
        algorithm.step(batch, batch, 0.01)
    kind = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(found.key_averages(), key=lambda row: getattr(row, kind), reverse=True)
    for row in rows[:15]:
        say(name=row.key[:80], calls=row.count, ms=getattr(row, kind) / 1e3)


def graph(rehearse: bool) -> None:
    """γ's two passes as CUDA graphs: equal to eager ones, and how much faster."""
    device = device_of(rehearse)
    preset, size = ("msdnet-digits", 16) if rehearse else ("msdnet-imagenet-4", 128)
    algorithm, batch = algorithm_on(device, preset), random_batch(device, preset, size)
    theta = {name: value.detach().clone() for name, value in algorithm.theta.items()}
    v = {name: torch.randn_like(value) * 1e-3 for name, value in theta.items()}
    losses, meta = algorithm.losses_now(), algorithm.weights.meta

    def forward_mode() -> Tensor:
        return jvp(algorithm.training_pass, losses, theta, v, batch[0])

    def validation() -> Tensor:
        passes = algorithm.validation_pass
        return metaval_gradient(passes, cross_entropies, theta, batch, meta)[1]

    for name, run in (("forward mode", forward_mode), ("validation", validation)):
        eager = run()
        if device.type != "cuda":
            say(graph_of=name, eager_ms=milliseconds(run, device, 1))
            continue
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(3):
                eager = run()
        torch.cuda.current_stream().wait_stream(beside)
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            result = run()
        captured.replay()
        wait(device)
        times = [milliseconds(each, device, 10) for each in (run, captured.replay)]
        say(graph_of=name, error=error(result, eager), eager_ms=times[0], graph_ms=times[1])


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
