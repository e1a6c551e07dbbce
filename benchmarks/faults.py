"""Kill runs with SIGKILL again and again, resume them, and compare them with runs left in peace.

    python benchmarks/faults.py --kills 100

The kills hit the preparation of the data, saves, evaluations, start-ups and steps, of all ranks or
of one. They are divided among runs on one rank and on two, under ZeRO 0, 1 and 2, and one that goes
on with another number of ranks at every start; in each, a checkpoint is once copied under the name
of a later step, which must not be taken for it.
stdout ends with a table, one run a row: how often it was killed and resumed, how many resumes fell
into one epoch at most, how many steps were computed again, whether any sample was lost or given to
two steps of an epoch, and how far weights and γ are from those of the run left in peace.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from chain_of_starts import CONFIG, RUN, account, interrupt_and_resume, steps_per_epoch
from chain_of_starts import without_times as events
from safetensors.torch import load_file

KINDS = ["preparation", "save", "evaluation", "step", "start-up"]


def moments(kills: int, chance: random.Random) -> list[str]:
    """What each kill is to hit; the first four are one of each kind."""
    first = KINDS[:4]
    rest = chance.choices(["save", "evaluation", "start-up", "step"], k=max(0, kills - len(first)))
    return (first + rest)[:kills]


@dataclass(frozen=True)
class Case:
    """A kind of run to kill."""

    ranks: tuple[int, ...]  # start by start
    zero: int  # DeepSpeed's stage

    def __str__(self) -> str:
        return f"ranks {' and '.join(map(str, self.ranks))}, ZeRO {self.zero}"


CASES = [Case((ranks,), zero) for zero in (0, 1, 2) for ranks in (1, 2)]
CASES.append(Case((2, 1), 0))  # ZeRO 1 and 2 divide the optimiser among the ranks


@dataclass(frozen=True)
class Outcome:
    """A killed run beside one left in peace."""

    case: str
    kills: int
    resumes: int
    resumes_within_an_epoch: int
    copies_refused: int
    steps_repeated: int
    samples_lost: int
    samples_repeated: int
    weights_equal: bool
    weights_differ_by: float  # the largest difference of any weight
    gamma_equal: bool
    metrics_equal: bool

    @property
    def as_promised(self) -> bool:
        """Whether nothing is lost, and on an unchanging number of ranks nothing differs."""
        equal = self.weights_equal and self.gamma_equal and self.metrics_equal
        return self.samples_lost == self.samples_repeated == 0 and (equal or "and" in self.case)


def compare(folder: Path, case: Case, kinds: list[str], chance: random.Random) -> Outcome:
    """Both runs, and how they compare; ``kinds`` is what the kills are to hit."""
    kills = len(kinds)
    # A kill comes up to an epoch later than the one before; most much sooner.
    epochs = max(CONFIG["hdkd"]["schedule"]["epochs"], 2 * kills // 5)
    config = copy.deepcopy(CONFIG) | {"zero_optimization": {"stage": case.zero}}
    config["hdkd"]["schedule"]["epochs"] = epochs
    peace, trouble = folder / "peace", folder / "trouble"
    for place in (peace, trouble):
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps(config))
    chain = interrupt_and_resume(trouble, case.ranks, kinds, chance, misname_after=3)
    interrupt_and_resume(peace, case.ranks[:1], [], None)
    if chain.kills < kills:
        print(f"the run was over after {chain.kills} kills")
    weights = [
        load_file(place / RUN / "checkpoints/final/model.safetensors") for place in (peace, trouble)
    ]
    gamma = [
        json.loads((place / RUN / "results.json").read_text())["gamma"]
        for place in (peace, trouble)
    ]
    lost, repeated = account(trouble, epochs)
    differences = [(weights[0][name] - weights[1][name]).abs().max() for name in weights[0]]
    return Outcome(
        case=str(case),
        kills=chain.kills,
        resumes=len(chain.resumed_at),
        resumes_within_an_epoch=chain.resumes_within_an_epoch(steps_per_epoch(trouble)),
        copies_refused=chain.copies_refused,
        steps_repeated=chain.steps_repeated,
        samples_lost=lost,
        samples_repeated=repeated,
        weights_equal=all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]),
        weights_differ_by=float(max(differences)),
        gamma_equal=gamma[0] == gamma[1],
        metrics_equal=events(peace) == events(trouble),
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """One run a row, for a page of Markdown."""
    rows = [list(asdict(outcome).values()) for outcome in outcomes]
    heads = [name.replace("_", " ") for name in asdict(outcomes[0])]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="divided among all kinds of run")
    parser.add_argument("--ranks", type=int, help="only runs on so many ranks at every start")
    parser.add_argument("--zero", type=int, help="only runs under this stage")
    parser.add_argument("--at", nargs="+", choices=KINDS, help="what kills hit, instead of --kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    given = parser.parse_args()
    cases = [
        case
        for case in CASES
        if given.ranks in (None, *(case.ranks if len(case.ranks) == 1 else ()))
        and given.zero in (None, case.zero)
    ]
    if not cases:
        parser.error("no kind of run is of that number of ranks and that stage")
    chance = random.Random(given.seed)
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).absolute()
        for number, case in enumerate(cases):
            kills = given.kills // len(cases) + (number < given.kills % len(cases))
            kinds = given.at or moments(kills, chance)
            print(f"{case}: {len(kinds)} kills", flush=True)
            outcomes.append(compare(folder / f"case{number}", case, kinds, chance))
            print(json.dumps(asdict(outcomes[-1])), flush=True)
    print(table(outcomes))
    if not all(outcome.as_promised for outcome in outcomes):
        sys.exit("a resumed run is another one")


if __name__ == "__main__":
    main()
