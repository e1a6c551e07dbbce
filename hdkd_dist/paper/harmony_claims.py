"""The claim that learned weights help, family by family and taken together, with its controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.judging import Claim, Comparison
from hdkd_dist.paper.scales import Scale
from hdkd_dist.paper.statistics import Statement
from hdkd_dist.paper.studies import CONTROLS, Choose, ablation_bench, controls, plain
from hdkd_dist.paper.tuning import SISTERS

GAIN: Statement = "above 0"


def harmony_claims(scale: Scale, choose: Choose) -> Iterator[Claim]:
    """One per family; last, all families in one comparison, in which their noise averages out."""
    bench = ablation_bench(scale)
    base = {name: plain(scale, bench, bench.ablation_size, name, choose) for name in METHODS}
    changed = {(row.trial.method, row.title): row.trial for row in controls(scale, choose)}

    def gain(families: Sequence[str], where: str) -> Comparison:
        sisters = [SISTERS[name] for name in families]
        title = f"{added(families)} − {added(sisters)}"
        learned, fixed = ([base[name] for name in names] for names in (families, sisters))
        return Comparison(title, learned, fixed, where, GAIN)

    def shares(families: Sequence[str]) -> Iterator[Comparison]:
        whole = gain(families, "all exits")
        sisters = [SISTERS[name] for name in families]
        for change in CONTROLS.values():
            control = [changed[name, change] for name in sisters]
            if control == whole.minus:
                continue  # γ keeps its sum: the sister is the control
            title = f"{added(sisters)} with {change}"
            for words, plus, minus, part in (
                (f"{added(families)} − {title}", whole.plus, control, "harmony"),
                (f"{title} − {added(sisters)}", control, whole.minus, "size"),
            ):
                yield Comparison(words, plus, minus, whole.quantity, GAIN, part)

    for learned, sister in SISTERS.items():
        titles = f"{METHODS[learned].title} beats {METHODS[sister].title}"
        yield Claim(
            f"Harmonised weights help: {titles}, most late.",
            [
                gain([learned], "all exits"),
                gain([learned], "late less early exits"),
                *shares([learned]),
            ],
        )
    families = list(SISTERS)
    yield Claim(
        "(Ours, added when Table 2 had been seen.) Harmonised weights help, the three families "
        "taken together.",
        [gain(families, "all exits"), *shares(families)],
    )


def added(names: Sequence[str]) -> str:
    """The titles of methods whose accuracies are added: (MSDNet + DBT)."""
    titles = " + ".join(METHODS[name].title for name in names)
    return f"({titles})" if len(names) > 1 else titles
