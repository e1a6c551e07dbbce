"""``hdkd_dist/train.py`` with one fault in one rank, for lost_ranks.py.

``FAULT`` names it, ``FAULT_RANK`` and ``FAULT_STEP`` say where; the rank notes the time in the file
``fault``.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hdkd_dist import cli, train


def be_killed() -> None:
    """As the system does where memory has run out, too."""
    os.kill(os.getpid(), signal.SIGKILL)


def be_stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def fail() -> None:
    raise KeyError("injected")


def run_out_of_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))
    kept = [bytearray(1 << 20) for _ in range(1000)]
    raise AssertionError(f"{len(kept)} MiB were given")


def crash() -> None:
    ctypes.string_at(0)


def wait_for_the_loader() -> None:
    threading.Event().wait()


def hang_in_c() -> None:
    ctypes.PyDLL(None).sleep(3600)  # with Python's lock


FAULTS: dict[str, Callable[[], None]] = {
    "killed": be_killed,
    "stopped": be_stopped,
    "raising": fail,
    "out of memory": run_out_of_memory,
    "segmentation fault": crash,
    "stuck in the loader": wait_for_the_loader,
    "stuck in C": hang_in_c,
}


def faulty(stream: Callable[..., Iterator]) -> Callable[..., Iterator]:
    """The stream, with the fault where it is asked for a step's batch."""
    faulty_rank, faulty_step = (int(os.environ[f"FAULT_{name}"]) for name in ("RANK", "STEP"))

    def wrapped(reader, share, *, seed, epoch=0, first_step=0):
        batches = stream(reader, share, seed=seed, epoch=epoch, first_step=first_step)
        for step, batch in enumerate(batches, start=first_step):
            if share.rank == faulty_rank and step == faulty_step:
                Path("fault").write_text(str(time.time()))
                FAULTS[os.environ["FAULT"]]()
            yield batch

    return wrapped


if __name__ == "__main__":
    with cli.leaving_at_once():
        from hdkd_dist.training import trainer

        trainer.train_epoch = faulty(trainer.train_epoch)
        cli.run(train.main)
