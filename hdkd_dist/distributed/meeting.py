"""The ranks meet before they talk: one that does not come is named instead of waited for.

torch lets the ranks wait for each other as long as for anything else, which may be an hour, and
then says how many are missing. Here each rank signs in at a store on rank 0, which waits a stated
time for all of them and tells everyone.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from hdkd_dist.distributed import ranks
from hdkd_dist.distributed.heartbeat import Heartbeat
from hdkd_dist.distributed.ranks import MEETING, RankFault
from hdkd_dist.distributed.watchdog import ProgressMark

GLANCE = 0.05  # seconds between two looks at who has come
ATTEMPT, PAUSE = 10.0, 0.2  # seconds for a connection, and before it is tried anew
GRACE = 30.0  # seconds after the time limit in which rank 0's word must come
LINGER = 1.0  # seconds for which rank 0 keeps its word readable
SHOWN = 8  # ranks that are named of those missing
WORD = "word"  # key: what rank 0 tells all, empty if everyone has come


@contextmanager
def met(limit: float = MEETING) -> Iterator[None]:
    """Within, all ranks have found each other, and MASTER_PORT is open on rank 0; collective.

    Args:
        limit: seconds for which ranks wait for each other.

    Raises:
        RankFault: on rank 0, naming the ranks that have not come; on a rank that finds no rank 0,
            or another process in its place. Ranks that have no part in it exit with status 2.
    """
    store = sign_in(limit)
    word = wait_for_all(store, limit) if ranks.rank() == 0 else wait_for_word(store, limit)
    if word and ranks.rank() == 0:
        raise RankFault(word)
    if word:
        raise SystemExit(2)
    yield
    del store  # torch's own store shares its port until here


def sign_in(limit: float) -> dist.Store:
    """Leave this rank's name at the store of the meeting, which rank 0 opens.

    Raises:
        RankFault: if it cannot be reached, or another process has signed in as this rank.
    """
    rank, end = ranks.rank(), time.monotonic() + limit
    address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # not torchrun's
    own = open_store(("127.0.0.1", address[1]), end, hosts=True) if hosts else None
    obstacle = first_obstacle(address, end)
    opened = None if obstacle else own or open_store(address, end)
    if opened is None:
        raise RankFault(
            f"{socket.gethostname()} has found no rank 0 at {address[0]}:{address[1]} within "
            f"{limit:.0f} s ({obstacle or 'another program answers there'}): MASTER_ADDR and "
            "MASTER_PORT must be those of rank 0's machine, on every rank, and open to it"
        )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store outlives ranks
    store = dist.PrefixStore(f"meeting/{attempt}", opened)
    if store.add(f"processes/{rank}", 1) > 1:
        raise RankFault(f"two processes have RANK={rank}: each process needs a rank of its own")
    store.set(f"rank/{rank}", "")
    return store


def open_store(address: tuple[str, int], end: float, hosts: bool = False) -> dist.TCPStore | None:
    """Open a store as its host or as a client; None where that takes longer than until ``end``.

    torch waits without limit for a program that takes connections and says nothing.

    Raises:
        RankFault: if the port is taken.
    """
    opened: list[dist.TCPStore | dist.DistError] = []

    def open_it() -> None:
        left = timedelta(seconds=max(1.0, end - time.monotonic()))
        try:
            store = dist.TCPStore(
                *address,
                is_master=hosts,
                timeout=left,
                wait_for_workers=False,
                multi_tenant=True,  # torch's own store will use the same port
            )
        except dist.DistError as error:
            opened.append(error)
        else:
            opened.append(store)

    thread = threading.Thread(target=open_it, name="meeting", daemon=True)
    thread.start()
    thread.join(max(1.0, end - time.monotonic()))
    result = opened[0] if opened else None
    if isinstance(result, dist.DistError) and "EADDRINUSE" in str(result):
        raise RankFault(
            f"port {address[1]} of this machine is taken, perhaps by another run: give the "
            f"launcher another one, such as --master_port {ranks.free_port()}"
        )
    return None if isinstance(result, dist.DistError) else result


def first_obstacle(address: tuple[str, int], end: float) -> str:
    """Connect to an address, again and again until ``end``; say what is in the way, if anything."""
    while True:
        try:
            socket.create_connection(address, timeout=ATTEMPT).close()
            return ""
        except OSError as error:
            if time.monotonic() > end:
                return error.strerror or str(error)
        time.sleep(PAUSE)


def wait_for_all(store: dist.Store, limit: float) -> str:
    """Wait on rank 0 until all ranks have signed in, and tell them.

    Returns:
        Which have not come; empty if all have.
    """
    missing = list(range(ranks.world_size()))
    mark = ProgressMark()
    end = time.monotonic() + limit
    with Heartbeat(mark, say):
        while missing and time.monotonic() < end:
            missing = [rank for rank in missing if not store.check([f"rank/{rank}"])]
            mark.activity = f"waiting for {listed(missing)}"
            time.sleep(GLANCE if missing else 0)
    word = ""
    if missing:
        word = (
            f"{listed(missing)} of {ranks.world_size()} did not come within {limit:.0f} s: see "
            "what they have printed, if the launcher has started them, and with the same "
            "WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
        )
    store.set(WORD, word)
    if word:
        time.sleep(LINGER)
    return word


def listed(missing: list[int]) -> str:
    """Name ranks, the first few one by one."""
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return f"rank {', '.join(map(str, missing[:SHOWN]))}{more}"


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def wait_for_word(store: dist.Store, limit: float) -> str:
    """Wait for what rank 0 tells all: see :func:`wait_for_all`.

    Raises:
        RankFault: if it tells nothing.
    """
    try:
        store.wait([WORD], timedelta(seconds=limit + GRACE))
        return store.get(WORD).decode()
    except dist.DistError:
        raise RankFault(
            "rank 0 has ended, or cannot be reached any more: see what it has printed"
        ) from None
