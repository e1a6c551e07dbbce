"""A rank under the watchdog that works until it is told otherwise; started by test_watchdog.py.

``watched_rank.py hang`` lets rank 1 stop moving after a while.
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
            watchdog.mark.move("computing")
            dist.all_reduce(torch.zeros(1))
            if step == 5:
                print("working", flush=True)
            time.sleep(0.02)
