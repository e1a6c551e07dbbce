"""How ranks agree at a step on what one of them wants, without waiting for each other."""

from __future__ import annotations

import torch
import torch.distributed as dist

from hdkd_dist.training import ranks

NOTHING, SAVE = 0, 1  # a signal's number asks to stop


class Ballot:
    """One number per rank and step, of which the highest counts.

    The votes travel on the host while the step is computed and are looked at one step later, when
    they have long arrived: neither a device nor, in general, the host waits.
    """

    def __init__(self) -> None:
        self._votes: torch.Tensor | None = None
        self._work: dist.Work | None = None

    def cast(self, vote: int) -> int:
        """Hand in this rank's vote; the highest one of the call before. Every rank calls it."""
        agreed = NOTHING
        if self._work is not None:
            self._work.wait()
            agreed = int(self._votes)
        self._votes = torch.tensor(vote)
        self._work = dist.all_reduce(
            self._votes, op=dist.ReduceOp.MAX, group=ranks.host_group(), async_op=True
        )
        return agreed
