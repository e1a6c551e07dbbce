"""Check and measure everything that only a GPU can show, in under nine minutes.

    python benchmarks/gpu.py                # all parts; results to docs/results/gpu.json
    python benchmarks/gpu.py --rehearse     # the same on this CPU with small sizes, in no file
    python benchmarks/gpu.py --parts agree,graphs,no_sync,speed,stream --out first.json
    python benchmarks/gpu.py --parts resume,profile,two_ranks,compile --out second.json

Every part of gpu_parts.py is a process of its own with a time limit: one that fails or hangs takes
no other with it. Each prints one JSON line per result; what is wanted is written next to the
numbers. The order is that of their value, should the machine be taken away.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hdkd_dist import cli
from hdkd_dist.paper.execution import searched_path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results/gpu.json"

LIMITS = {  # seconds
    "agree": 35,
    "graphs": 55,
    "no_sync": 35,
    "speed": 75,
    "stream": 45,
    "resume": 115,
    "profile": 35,
    "two_ranks": 45,
    "compile": 85,
}
REHEARSAL = 600  # seconds of each part on a CPU


def main(parts: str | None = None, rehearse: bool = False, out: str = str(RESULTS)) -> None:
    """Run the parts one after another.

    Args:
        parts: some of them, separated by commas; all by default.
        rehearse: on the CPU, small, to see that every part runs; nothing is written.
        out: the file for results.
    """
    import torch

    chosen = list(LIMITS) if parts is None else split(parts)
    if unknown := [name for name in chosen if name not in LIMITS]:
        raise ValueError(f"--parts: {unknown[0]} is none of {', '.join(LIMITS)}")
    if not rehearse and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here: add --rehearse to try the parts on the CPU")
    results: dict[str, Any] = {"setup": setup(rehearse)}
    print(json.dumps(results["setup"]), flush=True)
    for name in chosen:
        results[name] = run_part(name, rehearse)
        if not rehearse:  # what is done is kept if the machine goes
            Path(out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    failed = [name for name in chosen if results[name]["fault"]]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} parts ended well", *failed)
    if failed:
        sys.exit(1)


def split(parts: str | tuple[str, ...]) -> list[str]:
    """Take a list apart; the command line may have done it already."""
    return parts.split(",") if isinstance(parts, str) else list(parts)


def run_part(name: str, rehearse: bool) -> dict[str, Any]:
    """Run one part; its rows, its seconds and its fault, if it did not end well."""
    words = [sys.executable, str(ROOT / "benchmarks/gpu_parts.py"), "--part", name]
    environment = {**os.environ, "PYTHONPATH": searched_path(), "WANDB_MODE": "offline"}
    if rehearse:
        words.append("--rehearse")
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    start = time.monotonic()
    ended = run_limited(words, environment, REHEARSAL if rehearse else LIMITS[name])
    rows, seconds = rows_of(ended.printed), round(time.monotonic() - start, 1)
    for row in rows:
        print(json.dumps({"part": name, **row}), flush=True)
    if ended.fault:
        print(ended.said[-3000:], file=sys.stderr)
    print(json.dumps({"part": name, "seconds": seconds, "fault": ended.fault}), flush=True)
    return {"rows": rows, "seconds": seconds, "fault": ended.fault}


class Ended(NamedTuple):
    """How a process has ended."""

    printed: str
    said: str  # on stderr
    fault: str  # empty where it ended well


def run_limited(words: Sequence[str], environment: Mapping[str, str], limit: float) -> Ended:
    """Run a command; after ``limit`` seconds end it together with the processes it has started.

    Those would otherwise hold the pipes, which are read to their end, and the device.
    """
    process = subprocess.Popen(
        words,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Ended(*process.communicate(), "out of time")
    status = process.returncode
    return Ended(printed, said, f"status {status}" if status else "")


def rows_of(printed: str) -> list[dict[str, Any]]:
    """Read a part's results; it may have been ended within a line."""
    rows = []
    for line in printed.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows += [json.loads(line)] if line.startswith("{") else []
    return rows


def setup(rehearse: bool) -> dict[str, Any]:
    """Say what the results belong to."""
    import torch

    found: dict[str, Any] = {
        "device": "cpu" if rehearse else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "date": time.strftime("%Y-%m-%d"),
    }
    if not rehearse:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[0]
        cudnn = torch.backends.cudnn.version()
        found |= {"driver": driver, "cuda": torch.version.cuda, "cudnn": cudnn}
    return found


if __name__ == "__main__":
    cli.run(main)
