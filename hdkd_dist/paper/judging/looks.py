"""Judge a study as it grows.

Primary statements are looked at after 3, 4, 6 and 8 seeds, at a level that allows for the four
looks; a verdict that a look has reached stands. Each goes by itself: what fixed weights do is not
kept waiting by runs in which they are learned. All others are judged once, when all their seeds are
there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.judging.comparisons import Claim, Comparison, Evidence
from hdkd_dist.paper.judging.power import is_out_of_reach
from hdkd_dist.paper.judging.statistics import LOOKS, Noise
from hdkd_dist.paper.judging.verdicts import OPEN, Finding, JudgedClaim, awaiting, judge_claim


@dataclass(frozen=True)
class Look:
    """Hold what is known after some seeds of those primary statements whose runs are there.

    Attributes:
        seeds: so many of the first ones.
        judged: statements.
        of: how many primary statements there are.
        last: whether no seeds are planned for another look.
    """

    seeds: int
    judged: Sequence[JudgedClaim]
    of: int
    last: bool

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
        yield f"after {self.seeds} seeds: {self.what_follows}"

    @property
    def what_follows(self) -> str:
        """Say whether the study goes on."""
        if missing := self.of - len(self.judged):
            return f"{missing} await runs"
        if self.may_stop:
            return "all are closed: it may stop"
        if self.last:
            return "this was the last look: what is open stays open"
        return "it goes on to the next look"


def looks(claims: Sequence[Claim], evidence: Evidence) -> list[Look]:
    """Look at the primary statements after 3, 4, 6 and 8 seeds, as far as runs are there.

    Each look takes the noise from the runs of :func:`pooled`, of the seeds up to it, and waits for
    all of them: it says afterwards what it said then. A sign or a size that was decided at a look
    stands.
    """
    primary = [claim for claim in claims if claim.standing == "primary"]
    past: dict[str, JudgedClaim] = {}
    found: list[Look] = []
    planned = [count for count in LOOKS if count <= len(evidence.seeds)]
    for count in planned:
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
        found.append(Look(count, judged, len(primary), last=count == planned[-1]))
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
    return now if there else None


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
