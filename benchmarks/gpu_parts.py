"""Run one part of gpu.py: ``python benchmarks/gpu_parts.py --part speed [--rehearse]``.

A part prints JSON lines. It fails, with status 1, where what must hold does not.
"""

from __future__ import annotations

from gpu_checks import agree, graphs, no_sync, resume, stream, two_ranks
from gpu_speed import compile, profile, speed

from hdkd_dist import cli

PARTS = {
    part.__name__: part
    for part in (agree, graphs, no_sync, speed, stream, resume, profile, two_ranks, compile)
}


def main(part: str, rehearse: bool = False) -> None:
    """Run one part.

    Args:
        part: its name.
        rehearse: on the CPU, small.
    """
    if part not in PARTS:
        raise ValueError(f"{part} is none of {', '.join(PARTS)}")
    PARTS[part](rehearse)


if __name__ == "__main__":
    cli.run(main)
