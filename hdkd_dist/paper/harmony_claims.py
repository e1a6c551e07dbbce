"""The claim that learned weights help, family by family and taken together, with its controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.judging import Claim, Comparison
from hdkd_dist.paper.scales import Scale
from hdkd_dist.paper.statistics import Statement
from hdkd_dist.paper.studies import CONTROLS, Choose, ablation_bench, controls, plain
from hdkd_dist.paper.trials import Trial
from hdkd_dist.paper.tuning import SISTERS

GAIN: Statement = "above 0"


def harmony_claims(scale: Scale, choose: Choose) -> Iterator[Claim]:
    """One per family; last, all families in one comparison, whose mean has less noise."""
    bench = ablation_bench(scale)
    base = {name: plain(scale, bench, bench.ablation_size, name, choose) for name in METHODS}
    titles = {name: method.title for name, method in METHODS.items()}
    control = {(row.trial.method, row.title): row.trial for row in controls(scale, choose)}
    for learned, sister in SISTERS.items():
        mine, its = [base[learned]], [base[sister]]
        gain = f"{titles[learned]} − {titles[sister]}"
        yield Claim(
            f"Harmonised weights help: {titles[learned]} beats {titles[sister]}, most late.",
            [
                Comparison(gain, mine, its, "all exits", GAIN),
                Comparison(gain, mine, its, "late less early exits", GAIN),
                *(
                    comparison
                    for title in CONTROLS.values()
                    for comparison in control_parts(
                        mine, its, [control[sister, title]], title, titles[learned], titles[sister]
                    )
                ),
            ],
        )
    learned, sisters = ([base[name] for name in names] for names in (SISTERS, SISTERS.values()))
    yield Claim(
        "(Ours.) Harmonised weights help, the three families taken together.",
        [
            Comparison("sum of the learned − of the fixed", learned, sisters, "all exits", GAIN),
            *(
                comparison
                for title in CONTROLS.values()
                for comparison in control_parts(
                    learned,
                    sisters,
                    [control[name, title] for name in SISTERS.values()],
                    title,
                    "sum of the learned",
                    "of the fixed",
                )
            ),
        ],
    )


def control_parts(
    learned: Sequence[Trial],
    sisters: Sequence[Trial],
    control: Sequence[Trial],
    change: str,
    learned_title: str,
    sisters_title: str,
) -> Iterator[Comparison]:
    """What of a gain is left over a control, and what the control itself gains.

    Nothing where the control is the sister: γ keeps its sum then.
    """
    if control == sisters:
        return
    title = f"{sisters_title} with {change}"
    yield Comparison(f"{learned_title} − {title}", learned, control, "all exits", GAIN, "harmony")
    yield Comparison(f"{title} − {sisters_title}", control, sisters, "all exits", GAIN, "size")
