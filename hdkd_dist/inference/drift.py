"""After deployment: do the images still leave where, and as surely, as at export?

``hdkd-drift --model exported --live answers.jsonl``

Thresholds are right for images like those of the validation split. When other ones come, they leave
elsewhere, the budget no longer holds, and confidences mean less; no labels are needed to see it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdkd_dist import cli
from hdkd_dist.files.strict_json import open_regular, parse_json, to_json
from hdkd_dist.inference.exported import Exported, load_exported
from hdkd_dist.inference.policy import for_budget, for_exit, thresholds_of_exit
from hdkd_dist.inference.runtime import confidence_histogram

LEAST_DISTANCE = 0.05
"""A change that moves fewer images than this share is not called drift, however sure it is."""

LEVEL = 0.01
"""Nor one that chance alone would make more often than this."""

DRAWS = 2_000
NORMAL = 2.576  # a 99 % interval, in standard errors


@dataclass(frozen=True)
class Reference:
    """A policy on the validation images, as the export remembers it.

    Attributes:
        images: how many there were.
        shares: [K], that leave at each exit.
        histogram: [16], of the confidences with which they leave.
        budget_mmac: what the policy was made for.
    """

    images: int
    shares: Sequence[float]
    histogram: Sequence[float]
    budget_mmac: float


@dataclass(frozen=True)
class Live:
    """What predict.py has answered since.

    Attributes:
        exits: [N], 1-based.
        confidences: [N].
        skipped: files that were no images.
        thresholds: of the summary lines; None if there are none.
    """

    exits: np.ndarray
    confidences: np.ndarray
    skipped: int
    thresholds: Sequence[float] | None


@dataclass(frozen=True)
class Change:
    """Two distributions over the same bins.

    Attributes:
        live: shares.
        export: shares.
        distance: total variation, the share of images that would have to move, in 0..1.
        p: how often chance alone gives such a distance, or a larger one.
        changed: by more than ``LEAST_DISTANCE``, and than chance explains.
    """

    live: Sequence[float]
    export: Sequence[float]
    distance: float
    p: float
    changed: bool


@dataclass(frozen=True)
class Cost:
    """The mean multiply-adds per image, in millions, against the budget.

    Attributes:
        live: mean.
        low: lower end of its 99 % interval, with the noise of the validation images in it.
        high: upper end.
        budget: the policy's.
        holds: the budget lies within the interval or above.
    """

    live: float
    low: float
    high: float
    budget: float
    holds: bool


def read_live(file: Path, exits: int) -> Live:
    """Read the JSON lines of predict.py, of one or several runs in a row.

    Args:
        file: of lines.
        exits: K, of the model.

    Raises:
        ValueError: for a line that is none of those, or summaries of different policies.
    """
    if not file.is_file():
        raise ValueError(f"--live {file} is no file: give the lines that predict.py has printed")
    taken, confidences, skipped = [], [], 0
    thresholds: Sequence[float] | None = None
    with open_regular(file) as lines:
        for number, text in enumerate(lines, start=1):
            try:
                line = parse_json(text)
                if "summary" in line:
                    given = line["summary"]["thresholds"]
                    if thresholds is not None and given != thresholds:
                        raise ValueError("its thresholds are not those of an earlier summary")
                    thresholds = given
                elif "skipped" in line:
                    skipped += 1
                else:
                    taken.append(_exit_of(line, exits))
                    confidences.append(_confidence_of(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                detail = f"no {error}" if isinstance(error, KeyError) else str(error)
                raise ValueError(f"{file}, line {number}: not of predict.py ({detail})") from None
    if not taken:
        raise ValueError(f"--live {file} holds no answer")
    return Live(np.array(taken), np.array(confidences), skipped, thresholds)


def _exit_of(line: Mapping[str, Any], exits: int) -> int:
    number = line["exit"]
    if not isinstance(number, int) or not 1 <= number <= exits:
        raise ValueError(f"exit {number!r} of a model with {exits}")
    return number


def _confidence_of(line: Mapping[str, Any]) -> float:
    value = line["confidence"]
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"confidence {value!r}")
    return float(value)


def find_reference(exported: Exported, thresholds: Sequence[float]) -> Reference:
    """Find what the export remembers of a policy: a row of its table, or a fixed exit.

    Raises:
        ValueError: for a policy that is neither.
    """
    images = exported.validation["images"]
    if not images:
        raise ValueError(
            f"{exported.folder} comes from an earlier version, which kept no histograms of "
            "confidences: export the run again"
        )
    exits = len(exported.exits)
    for row in exported.budgets:
        if row["thresholds"] == list(thresholds):
            return Reference(images, row["val_shares"], row["val_histogram"], row["budget_mmac"])
    for k in range(exits):
        if thresholds_of_exit(k, exits) == list(thresholds):
            shares = [float(each == k) for each in range(exits)]
            histogram = exported.validation["histograms"][k]
            return Reference(images, shares, histogram, exported.mmac[k])
    raise ValueError(
        f"the answers' thresholds are not in the table of {exported.folder}: they are another "
        f"model's"
    )


def compare(live: np.ndarray, export: Sequence[float], images: int) -> Change:
    """Compare the counts [S] of live images with the shares [S] of the validation images.

    Their distance is held against those of 2,000 pairs of samples, of the same sizes, drawn from
    the two put together.
    """
    counts = np.rint(np.asarray(export) * images).astype(int)
    sizes = live.sum(), counts.sum()
    pooled = (live + counts) / sum(sizes)
    generator = np.random.default_rng(0)
    ours, theirs = (generator.multinomial(size, pooled, DRAWS) / size for size in sizes)
    by_chance = np.abs(ours - theirs).sum(axis=1) / 2
    distance = float(np.abs(live / sizes[0] - counts / sizes[1]).sum() / 2)
    p = float((1 + (by_chance >= distance - 1e-12).sum()) / (1 + DRAWS))
    changed = distance > LEAST_DISTANCE and p < LEVEL
    return Change((live / sizes[0]).tolist(), list(export), distance, p, changed)


def compare_cost(taken: np.ndarray, costs: Sequence[float], reference: Reference) -> Cost:
    """Hold the mean cost of live images, which left at exits ``taken`` [N], against the budget."""
    spent = np.asarray(costs)[taken - 1]
    planned = float(np.dot(reference.shares, costs))
    variance = float(np.dot(reference.shares, (np.asarray(costs) - planned) ** 2))
    error = math.sqrt(spent.var() / len(spent) + variance / reference.images)
    mean, margin = float(spent.mean()), NORMAL * error
    holds = mean - margin <= reference.budget_mmac * (1 + 1e-9)
    return Cost(mean, mean - margin, mean + margin, reference.budget_mmac, holds)


def main(
    model: Path, live: Path, budget_mmac: float | None = None, exit: int | None = None
) -> None:
    """Compare live answers with the export: exits, confidences, cost; JSON on stdout.

    The status is 1 if something has changed or the budget no longer holds.

    Args:
        model: the folder that export.py has written, and that has answered.
        live: the JSON lines of predict.py.
        budget_mmac: of the policy, where the lines have no summary.
        exit: likewise, of a fixed exit.
    """
    exported = load_exported(model)
    answers = read_live(live, len(exported.exits))
    if budget_mmac is not None:
        thresholds = for_budget(exported, budget_mmac)
    elif exit is not None:
        thresholds = for_exit(exported, exit)
    elif answers.thresholds is not None:
        thresholds = answers.thresholds
    else:
        raise ValueError(f"{live} has no summary line: give --budget_mmac or --exit")
    reference = find_reference(exported, thresholds)
    taken = np.bincount(answers.exits - 1, minlength=len(exported.exits))
    shares = confidence_histogram(answers.confidences)
    exits = compare(taken, reference.shares, reference.images)
    confidence = compare(
        np.rint(shares * len(answers.exits)), reference.histogram, reference.images
    )
    cost = compare_cost(answers.exits, exported.mmac, reference)
    found = {
        "images": len(answers.exits),
        "skipped": answers.skipped,
        "exits": asdict(exits),
        "confidence": asdict(confidence),
        "mmac": asdict(cost),
    }
    print(to_json(found, indent=1))
    print(verdict(exits, confidence, cost), file=sys.stderr)
    if exits.changed or confidence.changed or not cost.holds:
        sys.exit(1)


def verdict(exits: Change, confidence: Change, cost: Cost) -> str:
    """Say it in one line."""
    said = {
        "images leave elsewhere": exits.changed,
        "confidences have changed": confidence.changed,
        f"the budget is exceeded ({cost.live:.4g} against {cost.budget:.4g} MMAC)": not cost.holds,
    }
    faults = [words for words, true in said.items() if true]
    if faults:
        return f"drift: {', '.join(faults)}: find new thresholds on images like these"
    return f"no drift, and the budget holds ({cost.live:.4g} against {cost.budget:.4g} MMAC)"


if __name__ == "__main__":
    cli.run(main)
