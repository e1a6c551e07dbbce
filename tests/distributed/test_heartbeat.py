"""The heartbeat speaks where the main thread stands still, less and less often."""

from __future__ import annotations

import re
import time

from hdkd_dist.distributed.heartbeat import Heartbeat
from hdkd_dist.distributed.watchdog import ProgressMark


def test_it_says_what_takes_long_and_nothing_while_there_is_progress():
    mark = ProgressMark()
    said: list[tuple[str, float]] = []
    with Heartbeat(mark, lambda line: said.append((line, time.monotonic())), first=0.5):
        for _ in range(15):
            mark.move("computing")
            time.sleep(0.05)
        assert said == []
        moved = time.monotonic()
        mark.move("preparing: copying the data set to /tmp/data")
        while len(said) < 2:
            assert time.monotonic() - moved < 60
            time.sleep(0.05)
    (line, first), (_, second), *_ = said
    assert re.fullmatch(r"still preparing: copying the data set to /tmp/data \(\d+ s\)", line)
    assert first - moved >= 0.5
    assert second - moved >= 1
