"""A rank under the watchdog that works until it is told otherwise; started by test_watchdog.py.

``watched_rank.py hang`` lets rank 1 stop moving after a while, ``fail`` runs it out of memory, and
``break`` breaks its device.
"""

import sys
import time

import torch
import torch.distributed as dist

from hdkd_dist import cli
from hdkd_dist.distributed import ranks
from hdkd_dist.distributed.watchdog import Watchdog

with cli.leaving_at_once():
    dist.init_process_group("gloo")
    with Watchdog(timeout=3) as watchdog:
        for step in range(10_000):
            watchdog.mark.move("reading data", step)
            if sys.argv[1:] == ["hang"] and ranks.rank() == 1 and step == 10:
                time.sleep(60)
            if sys.argv[1:] == ["fail"] and ranks.rank() == 1 and step == 10:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            if sys.argv[1:] == ["break"] and ranks.rank() == 1 and step == 10:
                raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
            watchdog.mark.move("computing")
            dist.all_reduce(torch.zeros(1))
            if step == 5:
                print("working", flush=True)
            time.sleep(0.02)
