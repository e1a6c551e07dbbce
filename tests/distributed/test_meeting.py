"""Ranks, as real processes, that come, do not come, or come to the wrong place."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest
import ranks_harness  # noqa: F401  (what the processes are forked from has imported torch)
import torch
import torch.distributed as dist

from hdkd_dist.distributed.meeting import SHOWN, listed, met
from hdkd_dist.distributed.ranks import free_port, is_launched

LIMIT = 1.0  # seconds


def come():
    """Take part in a meeting."""
    with met(LIMIT):
        return "met"


def attend(folder, number, environment, action):
    """Note what comes of an action with other ranks."""
    os.environ.update({"MASTER_ADDR": "127.0.0.1", **environment})
    start = time.monotonic()
    try:
        said = action()
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    Path(folder, str(number)).write_text(f"{time.monotonic() - start} {said}")
    os._exit(0)


def meeting(*environments, action=come):
    """What each process says at the end, and that it comes in time."""
    context = multiprocessing.get_context("forkserver")
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=attend, args=(folder, number, environment, action))
            for number, environment in enumerate(environments)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        notes = [Path(folder, str(number)).read_text() for number in range(len(processes))]
    seconds, said = zip(*(note.split(" ", 1) for note in notes), strict=True)
    assert max(map(float, seconds)) < LIMIT + 8
    return list(said)


def rank(number, size, port, **other):
    return {"RANK": str(number), "WORLD_SIZE": str(size), "MASTER_PORT": str(port), **other}


def talk():
    """Start the process group at the port of the meeting."""
    with met(LIMIT):
        dist.init_process_group("gloo")
    total = torch.ones(())
    dist.all_reduce(total)
    return f"{total:.0f} talk"


def test_ranks_that_have_met_talk_at_the_same_port():
    port = free_port()
    assert meeting(*(rank(number, 3, port) for number in range(3)), action=talk) == ["3 talk"] * 3


def test_rank_that_does_not_come_is_named_by_rank_0_alone():
    port = free_port()
    first, last = meeting(rank(0, 3, port), rank(2, 3, port))
    assert first.startswith("RankFault: rank 1 of 3 did not come within 1 s: see what they have")
    assert last == "SystemExit: 2"


def test_only_the_first_of_many_missing_ranks_are_named():
    assert listed(list(range(SHOWN + 3))) == "rank 0, 1, 2, 3, 4, 5, 6, 7 and 3 more"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "Connection refused"),  # a wrong port: nobody is there
        ("nowhere.invalid", "Name or service not known"),
    ],
)
def test_wrong_address_is_named_with_what_is_in_the_way(address, why):
    port = free_port()
    (said,) = meeting(rank(1, 2, port, MASTER_ADDR=address))
    assert f"has found no rank 0 at {address}:{port} within 1 s ({why})" in said


def test_program_that_says_nothing_in_place_of_rank_0_does_not_hold_a_rank():
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        (said,) = meeting(rank(1, 2, mute.getsockname()[1]))
    assert "(another program answers there): MASTER_ADDR and MASTER_PORT must be" in said


def test_two_processes_of_one_rank_are_told_apart():
    port = free_port()
    first, *others = meeting(rank(0, 3, port), rank(1, 3, port), rank(1, 3, port))
    assert "rank 2 of 3" in first
    assert sorted(others)[0].startswith("RankFault: two processes have RANK=1")


def no_such_network():
    """What the command line makes of ranks that cannot connect."""
    from hdkd_dist.training.process_group import join_ranks

    return str(join_ranks(limit=LIMIT))


def test_ranks_that_have_met_and_cannot_connect_name_the_network():
    network = {"GLOO_SOCKET_IFNAME": "nowhere", "LOCAL_RANK": "0", "DS_ACCELERATOR": "cpu"}
    (said,) = meeting(rank(0, 1, free_port(), **network), action=no_such_network)
    assert said.startswith("RankFault: the ranks have met at MASTER_ADDR but cannot connect")


@pytest.mark.parametrize("port", ["", "ssh", "0", "65536"])
def test_port_that_is_none_is_refused_at_once(port):
    launched = {**rank(0, 2, port), "LOCAL_RANK": "0", "MASTER_ADDR": "node1"}
    with pytest.raises(ValueError, match="MASTER_PORT"):
        is_launched(launched)
