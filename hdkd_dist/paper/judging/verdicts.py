"""Hold a claim against finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hdkd_dist.paper.judging.comparisons import BESIDE, METRIC, Claim, Comparison, Evidence, Part
from hdkd_dist.paper.judging.power import is_out_of_reach
from hdkd_dist.paper.judging.statistics import (
    Interval,
    Sign,
    Size,
    counted,
    judge_sign,
    judge_size,
    together,
)

OPEN = ("undecided", "not enough runs yet")


@dataclass(frozen=True)
class Finding:
    """Hold a comparison, where its difference may lie, and what that says.

    Attributes:
        comparison: see there.
        wanted: seeds.
        interval: in the paper's metric; None: not enough runs.
        beside: in the other metric; it decides nothing.
        sign: whether the statement holds.
        size: how the effect compares with the paper's; None where it prints none.
        own: the interval by the spread of these differences alone; it decides nothing.
        out_of_reach: the wanted seeds cannot tell what is sought from 0.
    """

    comparison: Comparison
    wanted: int
    interval: Interval | None
    beside: Interval | None
    sign: Sign
    size: Size | None
    own: Interval | None = None
    out_of_reach: bool = False

    @property
    def closed(self) -> bool:
        """Tell whether it needs no more seeds: its sign is known, or that it is small."""
        return self.sign not in OPEN or self.size == "smaller than the paper's"


@dataclass(frozen=True)
class JudgedClaim:
    """Hold a claim and what has been found."""

    claim: Claim
    findings: Sequence[Finding]

    def of(self, part: Part) -> list[Finding]:
        """Return the findings of a part."""
        return [finding for finding in self.findings if finding.comparison.part == part]

    @property
    def sign(self) -> Sign:
        """Decide the claim: its comparisons together, controls left out."""
        return together([finding.sign for finding in self.of("claim")])

    @property
    def size(self) -> str:
        """Sum up how large its effects are against the paper's; "" where it prints none."""
        return counted([finding.size for finding in self.of("claim") if finding.size])

    @property
    def origin(self) -> str | None:
        """Say where a gain, the first comparison, comes from; None without controls.

        A control has either the size of the learned γ or its proportions, but not both: the gain is
        the sum of what the proportions contribute and what the size does.
        """
        proportions, size = self.of("proportions"), self.of("size")
        if not proportions:
            return None
        gain = self.findings[0]
        if gain.interval is None or gain.sign != "confirmed":
            return "No confirmed gain to explain."
        if any(each.sign == "not enough runs yet" for each in (*proportions, *size)):
            return "Where the gain comes from awaits controls."
        shares = [each.interval.mean / gain.interval.mean for each in size if each.interval]
        of_size = [each.sign == "confirmed" for each in size]
        of_proportions = [each.sign == "confirmed" for each in proportions]
        for share, grown, harmonised in zip(shares, of_size, of_proportions, strict=True):
            if grown and not harmonised:
                return (
                    "The gain is not shown to be more than that of a larger loss: the size of γ "
                    f"accounts for {share:.0%} of it."
                )
        if not all(of_proportions):
            return "Whether the gain is that of proportions or of size is undecided."
        if any(of_size):
            share = max(share for share, grown in zip(shares, of_size, strict=True) if grown)
            return f"The gain is that of proportions in part: size accounts for {share:.0%} of it."
        return "The gain is that of proportions: no control has shown a part of size in it."


def judge_claim(claim: Claim, evidence: Evidence) -> JudgedClaim:
    """Hold a claim against the records; a comparison waits for all its seeds."""
    stated = sum(comparison.part == "claim" for comparison in claim.comparisons)
    return JudgedClaim(
        claim,
        [
            found_of(each, evidence, claim.level, stated if each.part == "claim" else 1)
            for each in claim.comparisons
        ],
    )


def found_of(comparison: Comparison, evidence: Evidence, level: float, among: int) -> Finding:
    """Judge one comparison, one of ``among`` that are stated together."""
    found = awaiting(comparison, evidence)
    if found.interval is None or found.interval.seeds < found.wanted:
        return found
    effect = comparison.effect if comparison.claims_size else None
    noise = evidence.noise[METRIC][comparison.quantity]
    return replace(
        found,
        sign=judge_sign(found.interval, comparison.statement, level, among),
        size=None if effect is None else judge_size(found.interval, effect, level),
        out_of_reach=is_out_of_reach(comparison, found.wanted, noise, level),
    )


def awaiting(comparison: Comparison, evidence: Evidence) -> Finding:
    """Say what is known of a comparison, without a verdict."""
    return Finding(
        comparison,
        len(evidence.wanted(comparison)),
        evidence.interval(comparison),
        evidence.interval(comparison, BESIDE),
        "not enough runs yet",
        "not enough runs yet" if comparison.claims_size else None,
        evidence.own_interval(comparison),
    )
