"""Let one rank of a run fail in every way there is, and look at what the others say.

    python benchmarks/lost_ranks.py --times 3

stdout ends with a table, one kind of fault a row: how often the right rank was named, and no other;
how often every rank that could has left its stacks; exit statuses; and how long the others took.
The exit status is 1 unless all were named rightly.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chain_of_starts import CONFIG, RUN
from faulty_train import FAULTS
from local_ranks import ROOT, LocalRanks

SCRIPT = ROOT / "benchmarks/faulty_train.py"
HANG_TIMEOUT = 8.0  # seconds; the loader's first compilation takes longer, and is no hang
SELF_WRITING = ("stuck in the loader", "stuck in C")  # others have a traceback, or are gone
WAITING = 600.0  # seconds, of a start-up on a busy machine too


@dataclass(frozen=True)
class Verdict:
    """What came of one fault."""

    right: bool  # the faulty rank was named, and no other
    stacks: bool  # every rank that could has written where it stood
    statuses: tuple[int, ...]  # of the ranks, by rank
    seconds: float  # from the fault to the end of the others


def let_fail(fault: str, victim: int, step: int, ranks: int, folder: Path) -> Verdict:
    """Start a run whose rank ``victim`` fails at ``step``."""
    shutil.rmtree(folder / RUN, ignore_errors=True)
    (folder / "fault").unlink(missing_ok=True)
    environment = {"FAULT": fault, "FAULT_RANK": str(victim), "FAULT_STEP": str(step)}
    words = ["--ds_config", "config.json", "--out", RUN]
    run = LocalRanks(SCRIPT, words, ranks, folder, **environment)
    others = [process for rank, process in enumerate(run.processes) if rank != victim]
    end = time.monotonic() + WAITING
    while any(process.poll() is None for process in others) and time.monotonic() < end:
        time.sleep(0.05)
    began = (folder / "fault").read_text() if (folder / "fault").exists() else "nan"
    seconds = time.time() - float(began)
    run.send(signal.SIGKILL)
    statuses = run.wait()
    named = re.findall(r"^error: (.*?)(?: has |: )", run.output, flags=re.MULTILINE)
    right = bool(named) and all(re.fullmatch(rf"rank {victim} \(on \S+\)", name) for name in named)
    if not right:
        print(run.output, file=sys.stderr)
    writers = [rank for rank in range(ranks) if rank != victim or fault in SELF_WRITING]
    files = [folder / RUN / f"stacks/rank_{rank:05d}.txt" for rank in writers]
    stacks = all(file.exists() and "in " in file.read_text() for file in files)
    return Verdict(right, stacks, tuple(statuses), seconds)


def table(verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    """One kind of fault a row, for a page of Markdown."""
    lines = [["fault", "named rightly", "stacks", "statuses", "seconds"], ["---"] * 5]
    for fault, found in verdicts.items():
        statuses = sorted({" and ".join(map(str, sorted(v.statuses))) for v in found})
        lines.append(
            [
                fault,
                f"{sum(v.right for v in found)} of {len(found)}",
                f"{sum(v.stacks for v in found)} of {len(found)}",
                "; ".join(statuses),
                f"{min(v.seconds for v in found):.1f} to {max(v.seconds for v in found):.1f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="of each kind of fault")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    config = copy.deepcopy(CONFIG)
    config["hdkd"]["run"]["hang_timeout_s"] = HANG_TIMEOUT
    verdicts: dict[str, list[Verdict]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "config.json").write_text(json.dumps(config))
        for time_ in range(given.times):
            for fault in FAULTS:
                victim = (time_ + chance.randrange(2)) % given.ranks
                step = chance.randint(1, 15)
                verdict = let_fail(fault, victim, step, given.ranks, folder)
                verdicts[fault].append(verdict)
                print(f"{fault}, rank {victim} at step {step}: {verdict}", flush=True)
    print(table(verdicts))
    found = [verdict for each in verdicts.values() for verdict in each]
    right = sum(verdict.right for verdict in found)
    print(f"the right rank was named in {right} of {len(found)} faults")
    sys.exit(right < len(found))


if __name__ == "__main__":
    main()
