"""The heartbeat speaks where the main thread stands still, less and less often."""

from __future__ import annotations

import re
import time

from hdkd_dist.distributed.heartbeat import Heartbeat
from hdkd_dist.distributed.watchdog import ProgressMark


def test_it_says_what_takes_long_and_nothing_while_there_is_progress():
    mark = ProgressMark()
    said: list[str] = []
    with Heartbeat(mark, said.append, first=0.2):
        for _ in range(10):
            mark.move("computing")
            time.sleep(0.05)
        assert said == []
        mark.move("preparing: copying the data set to /tmp/data")
        time.sleep(1.0)  # after 0.2 s and 0.4 s, perhaps 0.8 s
    assert 2 <= len(said) <= 3
    assert re.fullmatch(r"still preparing: copying the data set to /tmp/data \(\d+ s\)", said[0])
