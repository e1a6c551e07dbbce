"""Joining the ranks of a run; tests/distributed/test_meeting.py has ranks that do not come."""

from __future__ import annotations

import socket

import pytest

from hdkd_dist.distributed import ranks


def test_a_port_that_is_taken_is_one_line_with_another_one(monkeypatch):
    from hdkd_dist.training.process_group import join_ranks

    launched = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in {**launched, "MASTER_PORT": str(port)}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ranks.RankFault, match=rf"port {port} .* is taken.* --master_port \d+"):
            join_ranks()
