"""A rank under the watchdog that works until it is told otherwise; started by test_watchdog.py.

The words on the command line name the fault that a rank has at its tenth step, and the rank (1).
"""

import ctypes
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from hdkd_dist import cli
from hdkd_dist.distributed import ranks
from hdkd_dist.distributed.watchdog import COMPILING, Watchdog


class SlowStore:
    """A store that answers so late that a rank's own threads see a verdict before it goes on."""

    def __init__(self, store: dist.TCPStore):
        self.store = store

    def __getattr__(self, name: str):
        return getattr(self.store, name)

    def compare_set(self, *words: str) -> bytes:
        agreed = self.store.compare_set(*words)
        time.sleep(1)
        return agreed


def run_out_of_device_memory(watchdog: Watchdog) -> None:
    watchdog._store = SlowStore(watchdog._store)
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def break_device(watchdog: Watchdog) -> None:
    raise RuntimeError("CUDA error: uncorrectable ECC error encountered")


def run_out_of_memory(watchdog: Watchdog) -> None:
    bytearray(1 << 60)


def hang(watchdog: Watchdog) -> None:
    time.sleep(60)


def hang_in_c(watchdog: Watchdog) -> None:
    ctypes.PyDLL(None).sleep(60)  # keeps Python's lock: no other thread runs


def compile_for_long(watchdog: Watchdog) -> None:
    time.sleep(2 * watchdog.timeout)
    print("compiled", flush=True)


FAULTS = {
    "fail": run_out_of_device_memory,
    "break": break_device,
    "memory": run_out_of_memory,
    "hang": hang,
    "hang_in_c": hang_in_c,
    "compile": compile_for_long,
}
fault = sys.argv[1] if len(sys.argv) > 1 else None
victim = sys.argv[2] if len(sys.argv) > 2 else "1"

with cli.leaving_at_once():
    dist.init_process_group("gloo")
    with Watchdog(timeout=3) as watchdog:
        watchdog.keep_stacks_in(Path("stacks"))
        for step in range(10_000):
            faulty = fault is not None and ranks.rank() == int(victim) and step == 10
            compiles = faulty and fault == "compile"
            watchdog.mark.move(COMPILING if compiles else "reading data", step)
            if faulty:
                FAULTS[fault](watchdog)
            watchdog.mark.move("computing")
            dist.all_reduce(torch.zeros(1))
            if step == 5:
                print("working", flush=True)
            if step == 20 and fault == "compile":
                break
            time.sleep(0.02)
