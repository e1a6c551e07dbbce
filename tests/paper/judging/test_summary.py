"""The claims in short, from made-up runs."""

from __future__ import annotations

from runs_like_the_papers import HOLDING, STATED, claim

from hdkd_dist.paper.judging.comparisons import Evidence
from hdkd_dist.paper.judging.looks import judge_claims
from hdkd_dist.paper.judging.summary import sentence, spread, summary_lines


def test_every_statement_stands_once_under_its_verdict():
    found = judge_claims(STATED, HOLDING)
    lines = list(summary_lines(found))
    titles = {
        "Holds": "confirmed",
        "Not decided": "undecided",
        "Awaits runs": "not enough runs yet",
    }
    under = ""
    seen = {}
    for line in lines[1:]:
        if line.startswith("\n**"):
            under = line.strip("\n*:")
        else:
            seen[line] = under
    tested = [each for each in found if each.claim.standing != "exploratory"]
    assert len(seen) == len(tested)
    for each in tested:
        assert titles[seen[f"- {sentence(each)}"]] == each.sign
    assert claim("(Ours, suggested by").text not in "\n".join(lines)


def test_a_sentence_says_how_large_the_effects_are():
    found = {each.claim.text: each for each in judge_claims(STATED, HOLDING)}
    primary = found[claim("P1.").text]
    (finding,) = primary.findings
    low, high = finding.interval.bounds(primary.claim.level)
    assert sentence(primary).endswith(
        f" Here: {finding.interval.mean:+.1f} ± {(high - low) / 2:.1f}; "
        f"the paper: {finding.comparison.effect:+.1f}."
    )
    several = found[claim("DBT, NaiveDKD and HDKD beat").text]
    means = [each.interval.mean for each in several.of("claim")]
    assert f"Here: {min(means):+.1f} to {max(means):+.1f}; " in sentence(several)
    assert spread([0.31, 0.29]) == "+0.3"
    assert spread([-0.04, 0.04]) == "+0.0"
    nothing = judge_claims(STATED, Evidence.of({}, HOLDING.planned, HOLDING.seeds))
    assert [sentence(each) for each in nothing] == [each.claim.text for each in nothing]
