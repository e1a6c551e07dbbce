"""Memory that glibc would hand back after every batch, kept for the next one."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from malloc.h; see mallopt(3)
NEVER, NONE = -1, 0


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, until it ends; where a CPU computes.

    Feature maps of tens of MB otherwise go back to the system after each use and return page by
    page, thousands of page faults per batch (docs/measurements.md has the figures). Call it before
    the network runs.

    Returns:
        Whether the C library took it; another library than glibc has its own ways.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, NEVER) and mallopt(M_MMAP_MAX, NONE))
