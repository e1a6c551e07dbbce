"""Write the ledger of claims as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hdkd_dist.paper.judging.claims import claims
from hdkd_dist.paper.judging.comparisons import BESIDE, METRIC, Claim, Evidence
from hdkd_dist.paper.judging.looks import judge_claims, looks
from hdkd_dist.paper.judging.statistics import (
    DIRECTIONS,
    LEVEL,
    LOOK_LEVEL,
    LOOKS,
    MARGIN,
    SMALLER,
    Interval,
    counted,
)
from hdkd_dist.paper.judging.summary import summary_lines
from hdkd_dist.paper.judging.verdicts import Finding, JudgedClaim
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.planning import settings_or_default
from hdkd_dist.paper.scales import DATA_SETS
from hdkd_dist.paper.tables import METRICS, NOTE, markdown_table, trained_on

CHANCE = (1 - LEVEL) / 2  # that a statement of a sign is confirmed where there is no effect

HOW = f"""
- **What is compared.** Runs with the same seed, data and order of samples, in the paper's metric,
  {METRICS[METRIC]}, in points; {METRICS[BESIDE]} stands beside it and decides nothing.
  Exits are averaged as named (early: the first half of them), then seeds.
- **On which images.** {{images}}
- **Interval.** Student's t, {LEVEL:.0%}. The noise of a run is estimated from all tested runs
  together (for primary statements from fewer, see there), as what is left when the effects of
  method and seed are taken out (two-way analysis of variance). It is taken to be the same for all
  methods, data sizes and numbers of exits, which is only roughly so: late exits of short runs, for
  one, may or may not come to use their depth. Where each seed draws another start of γ, the spread
  of the differences themselves is taken instead, for starts differ by more than noise.
- **For which data.** All seeds share one draw of the training images. Intervals hold for that draw;
  how much another draw would change is not in them.
- **Sign.** Confirmed: all of the interval is where the statement says. Reversed: all of it is on
  the other side of 0. Refuted: none of it lies in the stated range, or a claim has a part that is
  reversed. A claim of several statements needs all of them, and falls by one, at a level corrected
  for their number (Bonferroni). "Within ±{MARGIN:g}" is what "does not matter" is taken to mean.
  "Out of reach": with so many seeds the interval is wider than what is sought.
- **Size.** Smaller than the paper's: all of the interval lies below {SMALLER:.0%} of the paper's
  effect. Compatible: all of it lies above. The paper's effect is the same difference of its own
  numbers, on its own exits and network.
- **Primary statements** were written down before the study. They are looked at after
  {", ".join(map(str, LOOKS))} seeds; with four looks each has the level {1 - LOOK_LEVEL:.4f}, so
  that a statement without effect is decided at one of them in 5 % of studies (Pocock 1977). What a
  look has decided stands. Each of the four is judged by itself, as soon as its runs and those that
  give its noise are there: the runs of the primary statements with those seeds, but for a statement
  about fixed weights only those with fixed weights. All others are judged once, at the
  plain level, when all their seeds are there; if the primary ones have let the study stop, those of
  the last look: such a stop depends on the data, by which their level of 5 % becomes up to 7 % in
  simulations.
- **Controls** tell where a gain of learned weights comes from, the proportions of γ or its size,
  and do not count for the verdict.
"""


def claims_page(ledger: Ledger, evidence: Evidence, tables: str) -> Iterator[str]:
    """Write all claims, first in short; ``tables`` is the way to those pages from this one."""
    scale = ledger.scale.name
    stated = list(claims(ledger.scale, settings_or_default(ledger)))
    found = judge_claims(stated, evidence)
    by_standing = {
        standing: [each for each in found if each.claim.standing == standing]
        for standing in ("primary", "secondary", "exploratory")
    }
    yield NOTE
    yield "# The paper's claims"
    yield (
        f"\nHeld against runs at scale `{scale}` ([tables]({tables})); what is confirmed or "
        "refuted here is so at this scale. [How it is judged](#how-it-is-judged)."
    )
    if trained := trained_on(run for run in ledger.records.values() if run.has_test):
        yield f"\n{trained}"
    yield "\n## In short\n"
    yield from summary_lines(found)
    yield "\n## Primary statements\n"
    header = ["statement", "ours", percent(LOOK_LEVEL), "the paper", "sign", "size"]
    yield markdown_table([header, *map(primary_cells, by_standing["primary"])])
    yield "\nAs they were looked at:\n"
    for look in looks(stated, evidence):
        yield from (f"- {line}" for line in look.lines())
    yield "\n## All other statements\n"
    header = ["claim", "sign", "its statements", "size"]
    yield markdown_table([header, *map(short_cells, by_standing["secondary"])])
    yield from chance_lines(by_standing["secondary"])
    yield from unplanned_lines(stated, found)
    yield "\n## How it is judged\n"
    yield HOW.strip().format(images=images_of(evidence))
    yield from noise_lines(evidence)
    for each in (*by_standing["primary"], *by_standing["secondary"]):
        yield from claim_lines(each)
    if by_standing["exploratory"]:
        yield "\n## Exploratory\n"
        yield (
            "Suggested by data. A test on the data that suggested a statement is no test, so that "
            "these count in no verdict above."
        )
        for each in by_standing["exploratory"]:
            yield from claim_lines(each)


def images_of(evidence: Evidence) -> str:
    """Say what accuracies are measured on."""
    if not evidence.extra:
        return "The test split, which each run has read once, at its end."
    sizes = ", ".join(f"{DATA_SETS[name].title}({size})" for name, size in sorted(evidence.extra))
    return (
        f"At {sizes}: the test split and the training images that this size leaves unused, each "
        "image counted once; elsewhere, for budgets and in the tables of methods the test split. "
        "Nothing was trained on them, and each run "
        "has read them once, at its end."
    )


def primary_cells(each: JudgedClaim) -> list[str]:
    """Write a primary statement as a line."""
    (finding,) = each.findings
    ours, bounds = interval_cells(finding.interval, each.claim.level)
    verdicts = [f"**{verdict}**" if verdict else "" for verdict in (finding.sign, finding.size)]
    return [each.claim.text, ours, bounds, effect_cell(finding), *verdicts]


def short_cells(each: JudgedClaim) -> list[str]:
    """Write a claim as a line, with the count of its statements."""
    signs = counted([finding.sign for finding in each.of("claim")])
    return [each.claim.text, f"**{each.sign}**", signs, each.size]


def chance_lines(secondary: Sequence[JudgedClaim]) -> Iterator[str]:
    """Say how many statements would be confirmed if nothing had any effect."""
    signs = [
        finding.sign
        for each in secondary
        for finding in each.of("claim")
        if finding.comparison.statement in DIRECTIONS and finding.sign != "not enough runs yet"
    ]
    if signs:
        yield (
            f"\nThese are not corrected for their number: of the {len(signs)} signs judged here "
            f"about {CHANCE * len(signs):.1f} would be confirmed by chance if no method had any "
            f"effect; {signs.count('confirmed')} are."
        )


def unplanned_lines(stated: Sequence[Claim], found: Sequence[JudgedClaim]) -> Iterator[str]:
    """Name the claims for which there are no runs at this scale."""
    judged = {each.claim.text for each in found}
    if left := [claim.text for claim in stated if claim.text not in judged]:
        yield "\nNot planned at this scale:\n"
        yield from (f"- {text}" for text in left)


def noise_lines(evidence: Evidence) -> Iterator[str]:
    """Write the noise of one run, in both metrics."""
    beside = evidence.noise[BESIDE]
    lines = [
        [quantity, f"{own.deviation:.2f}", f"{other.deviation:.2f}", str(own.freedom)]
        for quantity, own in evidence.noise[METRIC].items()
        if own and (other := beside[quantity])
    ]
    if lines:
        yield "\nNoise of one run, in points:\n"
        titles = [f"standard deviation, {METRICS[metric]}" for metric in (METRIC, BESIDE)]
        yield markdown_table([["of", *titles, "degrees of freedom"], *lines])


def claim_lines(each: JudgedClaim) -> Iterator[str]:
    """Write one claim with its comparisons."""
    yield f"\n### {each.claim.text}\n"
    header = [
        "difference", "of", "stated", METRICS[METRIC], percent(each.claim.level),
        METRICS[BESIDE], "the paper", "seeds", "sign", "size",
    ]  # fmt: skip
    yield markdown_table([header, *(finding_cells(one, each.claim.level) for one in each.findings)])
    if each.origin:
        yield f"\n{each.origin}"
    if each.claim.standing == "primary" and (own := each.findings[0].own):
        low, high = own.bounds(each.claim.level)
        yield f"\nBy the spread of these differences alone: {low:+.2f} to {high:+.2f}."


def finding_cells(finding: Finding, level: float) -> list[str]:
    """Write a line of a claim's table."""
    comparison = finding.comparison
    kind = "" if comparison.part == "claim" else f" (control: {comparison.part})"
    mean, bounds = interval_cells(finding.interval, level)
    beside, _ = interval_cells(finding.beside, level)
    done = finding.interval.seeds if finding.interval else 0
    too_wide = finding.out_of_reach and finding.sign == "undecided"
    return [
        comparison.title,
        comparison.quantity + kind,
        comparison.statement,
        mean,
        bounds,
        beside,
        effect_cell(finding),
        f"{done} of {finding.wanted}",
        finding.sign + (", out of reach" if too_wide else ""),
        finding.size or "",
    ]


def percent(level: float) -> str:
    """Name an interval by its confidence."""
    return f"{100 * level:.3g}% interval"


def interval_cells(found: Interval | None, level: float) -> tuple[str, str]:
    """Write a mean and its bounds; empty where there is none."""
    if found is None:
        return "", ""
    low, high = found.bounds(level)
    return f"{found.mean:+.2f}", f"{low:+.2f} to {high:+.2f}"


def effect_cell(finding: Finding) -> str:
    """Write the paper's effect, where it prints one."""
    effect = finding.comparison.effect
    return "" if effect is None else f"{effect:+.2f}"
