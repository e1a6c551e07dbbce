"""Check and measure everything that only a GPU can show, in under nine minutes.

    python benchmarks/gpu.py                # all parts; results to docs/results/gpu.json
    python benchmarks/gpu.py --rehearse     # the same on this CPU with small sizes, in no file
    python benchmarks/gpu.py --parts agree,speed

Every part of gpu_parts.py is a process of its own with a time limit: one that fails or hangs takes
no other with it. Each prints one JSON line per result; what is wanted is written next to the
numbers. The order is that of their value, should the machine be taken away.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hdkd_dist import cli

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/results/gpu.json"

LIMITS = {  # seconds
    "agree": 70,
    "no_sync": 40,
    "speed": 120,
    "stream": 40,
    "resume": 90,
    "profile": 30,
    "graph": 50,
    "two_ranks": 30,
    "compile": 60,
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
    words = [sys.executable, str(ROOT / "benchmarks/gpu_parts.py"), name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    if rehearse:
        words.append("--rehearse")
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    start = time.monotonic()
    try:
        done = subprocess.run(
            words,
            env=environment,
            capture_output=True,
            text=True,
            timeout=REHEARSAL if rehearse else LIMITS[name],
        )
        printed, said, fault = done.stdout, done.stderr, f"status {done.returncode}"
        fault = "" if done.returncode == 0 else fault
    except subprocess.TimeoutExpired as late:
        printed, said, fault = text_of(late.stdout), text_of(late.stderr), "out of time"
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    seconds = round(time.monotonic() - start, 1)
    for row in rows:
        print(json.dumps({"part": name, **row}), flush=True)
    if fault:
        print(said[-3000:], file=sys.stderr)
    print(json.dumps({"part": name, "seconds": seconds, "fault": fault}), flush=True)
    return {"rows": rows, "seconds": seconds, "fault": fault}


def text_of(output: bytes | str | None) -> str:
    """Return what a process that was ended had printed."""
    return output.decode() if isinstance(output, bytes) else output or ""


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
