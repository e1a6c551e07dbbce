"""Say on one screen what holds, what does not, and how large it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hdkd_dist.paper.judging.comparisons import METRIC
from hdkd_dist.paper.judging.statistics import LEVEL, LOOK_LEVEL, Sign, Size
from hdkd_dist.paper.judging.verdicts import JudgedClaim
from hdkd_dist.paper.tables import METRICS

SMALL: Size = "smaller than the paper's"
GROUPS: dict[str, tuple[Sign, ...]] = {
    "Holds": ("confirmed",),
    "Does not hold": ("refuted", "reversed"),
    "Not decided": ("undecided",),
    "Awaits runs": ("not enough runs yet",),
}


def summary_lines(found: Sequence[JudgedClaim]) -> Iterator[str]:
    """Write a list for each kind of verdict; exploratory statements are in none."""
    tested = [each for each in found if each.claim.standing != "exploratory"]
    yield (
        f"Numbers are differences in points of {METRICS[METRIC]}; ± is half the interval's width "
        f"({LEVEL:.0%}, of primary statements {LOOK_LEVEL:.1%})."
    )
    for title, signs in GROUPS.items():
        claims = [each for each in tested if each.sign in signs]
        if claims:
            yield f"\n**{title}:**\n"
            yield from (f"- {sentence(each)}" for each in claims)


def sentence(each: JudgedClaim) -> str:
    """Write a claim, and behind it what was found."""
    findings = each.of("claim")
    intervals = [one.interval for one in findings if one.interval]
    papers = [one.comparison.effect for one in findings if one.comparison.effect is not None]
    if len(intervals) < len(findings) or not intervals:
        return each.claim.text
    ours = spread([interval.mean for interval in intervals])
    if len(findings) == 1:
        low, high = intervals[0].bounds(each.claim.level)
        ours += f" ± {(high - low) / 2:.1f}"
    beside = f"; the paper: {spread(papers)}" if papers else ""
    size = f" (size: {each.size})" if SMALL in each.size else ""
    return f"{each.claim.text} Here: {ours}{beside}{size}."


def spread(values: Sequence[float]) -> str:
    """Write a number, or the least and the largest of several."""
    low, high = (f"{round(end, 1) + 0.0:+.1f}" for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
