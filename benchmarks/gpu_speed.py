"""Parts of gpu.py that measure: time, memory and kernels of the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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

from hdkd_dist.method.algorithm import Algorithm, recorded
from hdkd_dist.method.hypergradient import jvp, metaval_gradient
from hdkd_dist.method.objective import cross_entropies
from hdkd_dist.method.recording import Recording


def speed(rehearse: bool) -> None:
    """Time and memory of plain and HDKD steps by micro-batch."""
    device = device_of(rehearse)
    preset = "msdnet-digits" if rehearse else "msdnet-imagenet-4"
    times = 2 if rehearse else 10
    sizes = [(16, False)] if rehearse else [(256, False), (64, False), (128, False), (512, False)]
    for size, searches in [*sizes, (sizes[0][0], True)]:
        torch.backends.cudnn.benchmark = searches  # among cuDNN's algorithms, at the first steps
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
            rate = 1e3 * size / row["ms"]
            say(micro_batch=size, searches=searches, step=name, images_per_s=rate, **row)
        default = (found["plain"] + found["gamma"]) / 2
        row = {"micro_batch": size, "searches": searches, "step": "hdkd, γ every 2", "ms": default}
        say(**row, to_plain=default / found["plain"])


def device_figures(run: Callable[[], None], device: torch.device) -> dict[str, float]:
    """Measure what the host needs to start a step, and the peak of memory; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    start = time.perf_counter()
    run()  # into an empty queue
    host = 1e3 * (time.perf_counter() - start)
    return {"host_ms": host, "peak_gb": torch.cuda.max_memory_allocated(device) / 1e9}


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
    """How many kernels a γ step has, how long they take, and which take the most."""
    device = device_of(rehearse)
    preset, size = ("msdnet-digits", 16) if rehearse else ("msdnet-imagenet-4", 128)
    algorithm, batch = algorithm_on(device, preset), random_batch(device, preset, size)
    for _ in range(3):
        algorithm.step(batch, batch, 0.01)
    with traced(device) as found:
        algorithm.step(batch, batch, 0.01)
    kernels = [event for event in found.events() if event.device_type.name == "CUDA"]
    say(kernels=len(kernels), device_ms=sum(event.device_time for event in kernels) / 1e3)
    kind = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(found.key_averages(), key=lambda row: getattr(row, kind), reverse=True)
    for row in rows[:15]:
        say(name=row.key[:80], calls=row.count, ms=getattr(row, kind) / 1e3)


def graph(rehearse: bool) -> None:
    """γ's two passes as CUDA graphs: equal to eager ones, how much faster, and the memory held.

    A graph cannot repeat what the training pass has recorded, which lies elsewhere at every step;
    the eager pass that does is therefore measured, too.
    """
    device = device_of(rehearse)
    preset, size = ("msdnet-digits", 16) if rehearse else ("msdnet-imagenet-4", 128)
    algorithm, batch = algorithm_on(device, preset), random_batch(device, preset, size)
    theta = {name: value.detach().clone() for name, value in algorithm.theta.items()}
    v = {name: torch.randn_like(value) * 1e-3 for name, value in theta.items()}
    losses, meta = algorithm.losses_now(), algorithm.weights.meta
    record = algorithm.recording()
    recorded(algorithm.training_pass, record)(theta, batch[0][0])

    def forward_mode(record: Recording | None = None) -> Tensor:
        return jvp(algorithm.training_pass, losses, theta, v, batch[0], record)

    def validation() -> Tensor:
        passes = algorithm.validation_pass
        return metaval_gradient(passes, cross_entropies, theta, batch, meta)[1]

    times = 1 if rehearse else 10
    after_record = milliseconds(partial(forward_mode, record), device, times)
    say(eager="forward mode after a recorded pass", eager_ms=after_record)
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
        captured, held = torch.cuda.CUDAGraph(), torch.cuda.memory_reserved()
        with torch.cuda.graph(captured):
            result = run()
        captured.replay()
        wait(device)
        say(
            graph_of=name,
            error=error(result, eager),
            eager_ms=milliseconds(run, device, times),
            graph_ms=milliseconds(captured.replay, device, times),
            graph_gb=(torch.cuda.memory_reserved() - held) / 1e9,
        )


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
