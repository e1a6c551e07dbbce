"""Show runs as one self-contained page: ``python hdkd_dist/report.py --runs runs/*``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hdkd_dist import cli


def main(runs: Sequence[str], out: Path = Path("report.html")) -> None:
    """Write a page of HTML about runs, finished or not; it needs no network and no account.

    Args:
        runs: the runs' folders; what is not one is left out.
        out: the file to write.
    """
    from hdkd_dist.reporting.page import render
    from hdkd_dist.reporting.runs import read_runs
    from hdkd_dist.runs.metrics import run_folders

    if out.exists() and not out.is_file():
        raise ValueError(f"cannot write {out}: it is no file; choose another --out")
    found = read_runs(run_folders(runs))
    page = render(found).encode("utf-8", "backslashreplace")  # JSON may hold half characters
    for run in found:
        for note in run.notes:
            print(f"note: {run.name}: {note}", file=sys.stderr)
    try:
        out.write_bytes(page)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error}; choose another --out") from None
    finished = sum(run.finished for run in found)
    print(f"{out}: runs {len(found)}, finished {finished}; {len(page) / 1e6:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
