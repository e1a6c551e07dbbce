"""Hold claims against finished runs.

Primary statements are looked at after 3, 4, 6 and 8 seeds, at a level that allows for the four
looks; a verdict that a look has reached stands. Each goes by itself: what fixed weights do is not
kept waiting by runs in which they are learned. All others are judged once, when all their seeds are
there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.judging.comparisons import (
    BESIDE,
    METRIC,
    PRIOR_NOISE,
    Claim,
    Comparison,
    Evidence,
    Part,
)
from hdkd_dist.paper.judging.statistics import (
    DIRECTIONS,
    LEVEL,
    LOOKS,
    Interval,
    Noise,
    Sign,
    Size,
    counted,
    judge_sign,
    judge_size,
    standard_errors,
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


@dataclass(frozen=True)
class Look:
    """Hold what is known after some seeds of those primary statements whose runs are there.

    Attributes:
        seeds: so many of the first ones.
        judged: statements.
        of: how many primary statements there are.
    """

    seeds: int
    judged: Sequence[JudgedClaim]
    of: int

    @property
    def may_stop(self) -> bool:
        """Tell whether all primary statements are closed."""
        closed = all(finding.closed for each in self.judged for finding in each.findings)
        return closed and len(self.judged) == self.of

    def lines(self) -> Iterator[str]:
        """Say what is closed, and whether to go on."""
        for each in self.judged:
            (finding,) = each.findings
            if (found := finding.interval) is None:
                continue
            low, high = found.bounds(each.claim.level)
            state = "closed" if finding.closed else "open"
            size = f"; {finding.size}" if finding.size else ""
            yield (
                f"after {self.seeds} seeds: {each.claim.text} {found.mean:+.2f} "
                f"({low:+.2f} to {high:+.2f}, {found.freedom} degrees of freedom): "
                f"{finding.sign}{size} [{state}]"
            )
        missing = self.of - len(self.judged)
        then = "all are closed: it may stop" if self.may_stop else "it goes on to the next look"
        yield f"after {self.seeds} seeds: {f'{missing} await runs' if missing else then}"


def looks(claims: Sequence[Claim], evidence: Evidence) -> list[Look]:
    """Look at the primary statements after 3, 4, 6 and 8 seeds, as far as runs are there.

    Each look takes the noise from the runs of :func:`pooled`, of the seeds up to it, and waits for
    all of them: it says afterwards what it said then. A sign or a size that was decided at a look
    stands.
    """
    primary = [claim for claim in claims if claim.standing == "primary"]
    past: dict[str, JudgedClaim] = {}
    found: list[Look] = []
    for count in LOOKS:
        seeds = list(evidence.seeds)[:count]
        judged = []
        for claim in primary:
            now = evidence_of(pooled(claim, primary), seeds, evidence)
            if now is None:
                continue
            verdict = judge_claim(claim, now)
            findings = [for_all_seeds(each, evidence, claim.level) for each in verdict.findings]
            if before := past.get(claim.text):
                findings = [*map(standing, before.findings, findings)]
            past[claim.text] = JudgedClaim(claim, findings)
            judged.append(past[claim.text])
        if not judged:
            break
        found.append(Look(count, judged, len(primary)))
    return found


def pooled(claim: Claim, primary: Sequence[Claim]) -> list[Comparison]:
    """Return the comparisons whose runs give the noise that a primary statement is judged by.

    Those of all primary statements; but for one about fixed weights, of those about fixed weights:
    it need not wait for the others, and runs in which γ learns may vary more.
    """
    compared = [each for other in primary for each in other.comparisons]
    if any(learns(each) for each in claim.comparisons):
        return compared
    return [each for each in compared if not learns(each)]


def learns(comparison: Comparison) -> bool:
    """Tell whether γ learns in any of its runs."""
    return any(METHODS[trial.method].learns for trial in [*comparison.plus, *comparison.minus])


def evidence_of(
    compared: Sequence[Comparison], seeds: Sequence[int], evidence: Evidence
) -> Evidence | None:
    """Return the evidence of these comparisons' runs alone, or None while some are missing."""
    names = {name for each in compared for seed in seeds for name in each.names(seed)}
    own = {name: each for name, each in evidence.records.items() if name in names}
    now = Evidence.of(own, names, seeds)
    there = all(len(now.finished(each)) == len(seeds) for each in compared)
    return now if there and len(set(seeds)) else None


def for_all_seeds(finding: Finding, evidence: Evidence, level: float) -> Finding:
    """Let a look's finding say how many seeds are planned, and what these could tell."""
    wanted = len(evidence.wanted(finding.comparison))
    interval = finding.interval
    if interval is None:
        return replace(finding, wanted=wanted)
    deviation = interval.error * math.sqrt(interval.seeds / finding.comparison.runs)
    noise = Noise(deviation, interval.freedom * (wanted - 1) // (interval.seeds - 1))
    reach = is_out_of_reach(finding.comparison, wanted, noise, level)
    return replace(finding, wanted=wanted, out_of_reach=reach)


def standing(before: Finding, now: Finding) -> Finding:
    """Keep what an earlier look has decided, with the estimate of now."""
    return replace(
        now,
        sign=now.sign if before.sign in OPEN else before.sign,
        size=now.size if before.size in (None, *OPEN) else before.size,
    )


def judge_claims(claims: Sequence[Claim], evidence: Evidence) -> list[JudgedClaim]:
    """Judge what is planned: primary statements by their last look, all others once.

    Where the primary statements have allowed to stop, the others want no seeds beyond that look.
    """
    past = looks(claims, evidence)
    if past and past[-1].may_stop:
        evidence = replace(evidence, seeds=list(evidence.seeds)[: past[-1].seeds])
    looked_at = {each.claim.text: each for look in past for each in look.judged}  # the last counts
    found = []
    for claim in claims:
        own = [each for each in claim.comparisons if evidence.wanted(each)]
        if not any(each.part == "claim" for each in own):
            continue
        if claim.text in looked_at:
            found.append(looked_at[claim.text])
        elif claim.standing == "primary":
            found.append(JudgedClaim(claim, [awaiting(each, evidence) for each in own]))
        else:
            found.append(judge_claim(replace(claim, comparisons=own), evidence))
    return found


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
