"""The ledger of claims as a page."""

from __future__ import annotations

from collections.abc import Iterator

from hdkd_dist.paper.claims import claims
from hdkd_dist.paper.judging import Evidence, Finding, Judged, judged
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.planning import hopeful
from hdkd_dist.paper.statistics import LEVEL, MARGIN
from hdkd_dist.paper.writing import NOTE, markdown_table

ABOUT = (
    "what is confirmed or refuted here is so at this scale. Each comparison is one of runs with "
    "the same seed, data and order of samples: top-1 on the test split, averaged over the exits "
    "(or thirds of the budgets) named, per seed. The interval is Student's t, {level:.0%}; the "
    "noise of a run is estimated from all finished runs together, as what remains when the effects "
    "of method and seed are taken out (two-way analysis of variance); those from a random γ are "
    "left out there, for each seed draws another start (what is said of them holds for the starts "
    "that were drawn: how starts differ is not in the interval). A statement is confirmed "
    "where the whole interval lies in the stated range, refuted where none of it does, undecided "
    'otherwise; "within ±{margin:g}" is what "does not matter" is taken to mean, in points. A '
    "claim of several statements is confirmed where all are, refuted where one is, at a level "
    "corrected for their number (Bonferroni). Controls tell where a gain comes from: the fixed "
    "sister with the same size of γ (Σγ/Σγ₀ replayed step by step), and with a learning rate "
    "multiplied by the mean of that ratio. What the learned run gains over them is harmony's, what "
    "they gain over the sister is the size's; neither counts for the verdict. A learned γ that "
    "keeps its sum has its sister for both."
)


def claims_page(ledger: Ledger, evidence: Evidence, tables: str) -> Iterator[str]:
    """All claims, first in short; ``tables`` is the way to those pages from this one."""
    scale = ledger.scale.name
    found = [judged(claim, evidence) for claim in claims(ledger.scale, hopeful(ledger))]
    yield NOTE
    yield "# The paper's claims"
    yield ""
    yield (
        f"Held against runs at scale `{scale}` ([tables]({tables})); "
        + ABOUT.format(level=LEVEL, margin=MARGIN)
    )
    yield ""
    yield markdown_table(
        [["claim", "verdict"], *([each.claim.text, f"**{each.verdict}**"] for each in found)]
    )
    noise = [
        [quantity, f"{each.deviation:.2f}", str(each.freedom)]
        for quantity, each in evidence.noise.items()
        if each
    ]
    if noise:
        yield "\nNoise of one run, in points:\n"
        header = ["of", "standard deviation", "degrees of freedom"]
        yield markdown_table([header, *noise])
    for each in found:
        yield from claim_lines(each)


def claim_lines(each: Judged) -> Iterator[str]:
    """One claim with its comparisons."""
    yield f"\n## {each.claim.text}\n"
    header = ["difference", "of", "stated", "mean", f"{LEVEL:.0%} interval", "seeds", "verdict"]
    yield markdown_table([header, *map(finding_cells, each.findings)])
    yield f"\nVerdict: **{each.verdict}**."
    if each.origin:
        yield f"\n{each.origin}"


def finding_cells(finding: Finding) -> list[str]:
    """A line of a claim's table."""
    comparison, found = finding.comparison, finding.interval
    kind = "" if comparison.part == "claim" else f" (control: {comparison.part})"
    shown = ["", "", f"0 of {finding.wanted}"]
    if found is not None:
        low, high = found.bounds()
        seeds = f"{found.seeds} of {finding.wanted}"
        shown = [f"{found.mean:+.2f}", f"{low:+.2f} to {high:+.2f}", seeds]
    where = comparison.quantity + kind
    return [comparison.title, where, comparison.statement, *shown, finding.verdict]
