"""Show runs as one self-contained page: ``python hdkd_dist/report.py --runs runs/*``."""

from __future__ import annotations

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

    found = read_runs(run_folders(runs))
    page = render(found)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error}; choose another --out") from None
    finished = sum(run.finished for run in found)
    print(f"{out}: runs {len(found)}, finished {finished}; {len(page.encode()) / 1e6:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
