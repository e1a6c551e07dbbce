"""Say beforehand how wide the interval of a comparison will be, and what it can decide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from hdkd_dist.paper.judging.comparisons import PRIOR_NOISE, Claim, Comparison
from hdkd_dist.paper.judging.statistics import DIRECTIONS, LEVEL, Noise, standard_errors


def half_width(
    comparison: Comparison, seeds: int, noise: Noise | None, level: float = LEVEL
) -> float | None:
    """Return half the width of the interval that a comparison will have, in points.

    None where the noise is not known, or is more than that of training.
    """
    if noise is None or comparison.draws_start:
        return None
    error = noise.deviation * math.sqrt(comparison.runs / seeds)
    return standard_errors(level, noise.freedom) * error


def is_out_of_reach(
    comparison: Comparison, seeds: int, noise: Noise | None, level: float = LEVEL
) -> bool:
    """Tell whether the interval would be wider than what is sought.

    Even an effect of exactly the paper's size is then missed more often than it is found.
    """
    half = half_width(comparison, seeds, noise, level)
    return half is not None and comparison.sought is not None and half >= comparison.sought


def power_lines(
    claims: Sequence[Claim], noise: Mapping[str, Noise | None], seeds: int
) -> Iterator[str]:
    """Print what a study will be able to decide, comparison by comparison.

    Args:
        claims: with the comparisons that the study is for.
        noise: of one run in the paper's metric, by quantity; where it is not known yet that of an
            earlier study is taken.
        seeds: of the study.

    Raises:
        ValueError: if it could decide none of them.
    """
    lines: list[str] = []
    reach: list[float] = []  # what is sought, in half-widths
    for claim in claims:
        for each in claim.comparisons:
            known = noise.get(each.quantity)
            half = half_width(each, seeds, known or PRIOR_NOISE.get(each.quantity), claim.level)
            words = [f"{each.title}, {each.quantity}"]
            words.append("width not known" if half is None else f"± {half:.2f}")
            if half is not None and known is None:
                words[-1] += " (by the noise of an earlier study)"
            if each.sought is not None:
                source = "the paper has" if each.statement in DIRECTIONS else "the margin is"
                words.append(f"{source} {each.sought:.2f}")
            if half is None or each.sought is None:
                reach.append(math.inf)
            else:
                reach.append(each.sought / half)
            if reach[-1] <= 1:
                words.append(f"cannot be decided with {seeds} seeds")
            lines.append(", ".join(words))
    if reach and max(reach) <= 1:
        nearest = lines[reach.index(max(reach))]
        raise ValueError(
            f"{seeds} seeds can decide none of this study's {len(lines)} comparisons (the nearest: "
            f"{nearest}): plan more seeds, or leave the study out"
        )
    return iter(lines)
