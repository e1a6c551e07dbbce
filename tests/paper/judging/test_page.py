"""The page of the claims, from made-up runs."""

from __future__ import annotations

from pathlib import Path

from made_up import SMALL
from runs_like_the_papers import HOLDING, PLANNED, SEEDS, STATED, claim

from hdkd_dist.paper.judging.comparisons import Evidence
from hdkd_dist.paper.judging.looks import judge_claims
from hdkd_dist.paper.judging.page import claims_page
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.trials import Folders


def page(records):
    ledger = Ledger(SMALL, Folders(Path("data"), Path("runs")), Path("results"), records)
    evidence = Evidence.of(records, PLANNED, SEEDS)
    return "\n".join(claims_page(ledger, evidence, "tables.md"))


def test_the_page_leads_with_primary_statements_and_ends_with_exploratory_ones():
    text = page(HOLDING.records)
    parts = [
        "## In short",
        "**Holds:**",
        "## Primary",
        "| P1. ",
        "after 8 seeds",
        "## All other",
        "## How it is",
        "## Explo",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    short, details = text.split("## How it is judged")
    assert "**confirmed**" in short.split("| P1.")[1].split("\n")[0]
    assert claim("(Ours, suggested by").text not in short
    assert claim("(Ours, suggested by").text in details.split("## Exploratory")[1]
    assert "All seeds share one draw of the training images" in details
    judged_signs = [
        finding.sign
        for each in judge_claims(STATED, HOLDING)
        if each.claim.standing == "secondary"
        for finding in each.of("claim")
        if finding.comparison.statement in ("above 0", "below 0")
        and finding.sign != "not enough runs yet"
    ]
    chance = f"of the {len(judged_signs)} signs judged here about {0.025 * len(judged_signs):.1f} "
    assert chance in short
    assert f"{judged_signs.count('confirmed')} are." in short


def test_the_page_of_nothing_says_so():
    text = page({})
    assert "**confirmed**" not in text
    assert text.count("not enough runs yet") > 20
    assert "by chance" not in text
