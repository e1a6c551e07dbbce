"""The paper's claims, each with the comparisons that decide it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.harmony_claims import harmony_claims
from hdkd_dist.paper.judging import THIRDS, Claim, Comparison
from hdkd_dist.paper.scales import Scale
from hdkd_dist.paper.statistics import Statement
from hdkd_dist.paper.studies import Choose, ablation_bench, equilibrium, levers, plain, table_3
from hdkd_dist.paper.trials import Trial

NO_LESS: Statement = "above 0"
LESS: Statement = "below 0"
NO_LOSS: Statement = "above −1"
NO_GAIN: Statement = "below 1"
EQUAL: Statement = "within ±1"


def claims(scale: Scale, choose: Choose) -> Iterator[Claim]:
    """All of them, for runs at a scale."""
    bench = ablation_bench(scale)
    base = {name: plain(scale, bench, bench.ablation_size, name, choose) for name in METHODS}
    titles = {name: method.title for name, method in METHODS.items()}

    def less(a: str, b: str, where: str, statement: Statement = NO_LESS) -> Comparison:
        return Comparison(f"{titles[a]} − {titles[b]}", [base[a]], [base[b]], where, statement)

    taught = [name for name, method in METHODS.items() if method.teachers != "none"]
    yield Claim(
        "Every method with distillation beats MSDNet at the early exits; NaiveDKD beats DBT there.",
        [
            *(less(name, "msdnet", "early exits") for name in taught),
            less("naive_dkd", "dbt", "early exits"),
        ],
    )
    yield Claim(
        "DBT and NaiveDKD stagnate or lose at the last exit.",
        [less(name, "msdnet", "last exit", NO_GAIN) for name in ("dbt", "naive_dkd")],
    )
    yield from harmony_claims(scale, choose)
    others = [name for name in METHODS if name != "hdkd"]
    yield Claim(
        "HDKD is the best at the last exit.", [less("hdkd", name, "last exit") for name in others]
    )
    yield Claim(
        "HDKD is the best overall; it beats HDBT.",
        [less("hdkd", name, "all exits") for name in others],
    )

    def at(size: int, name: str) -> Trial:
        return plain(scale, bench, size, name, choose)

    yield Claim(
        "The gain of HDKD grows as the data shrink.",
        [
            Comparison(
                f"(HDKD − MSDNet) at {small} less at {large} images per class",
                [at(small, "hdkd"), at(large, "msdnet")],
                [at(small, "msdnet"), at(large, "hdkd")],
                "all exits",
                NO_LESS,
            )
            for small, large in pairwise(sorted(bench.compared))
        ],
    )
    yield from ablation_claims(scale, choose)
    yield Claim(
        "Under budgets HDKD lies above DBT and MSDNet.",
        [less("hdkd", name, third) for name in ("dbt", "msdnet") for third in THIRDS],
    )
    (combined,) = equilibrium(scale, choose)
    yield Claim(
        "HDKD combines with gradient equilibrium and gains further.",
        [
            Comparison(
                "HDKD with gradient equilibrium − HDKD",
                [combined.trial],
                [base["hdkd"]],
                "all exits",
                NO_LESS,
            )
        ],
    )
    yield Claim(
        "The validation split can be used again for thresholds although γ was learned on it: it "
        "flatters HDKD no more than MSDNet.",
        [less("hdkd", "msdnet", "validation less test, all budgets", EQUAL)],
    )
    yield from lever_claims(scale, choose)


def ablation_claims(scale: Scale, choose: Choose) -> Iterator[Claim]:
    """Those of Table 3."""
    rows = {(row.block, row.title): row.trial for row in table_3(scale, choose)}
    base = rows["α", "0.5"]

    def less(title: str, plus: Trial, minus: Trial, where: str, statement: Statement) -> Comparison:
        return Comparison(title, [plus], [minus], where, statement)

    starts = [(title, trial) for (block, title), trial in rows.items() if block == "initial γ"]
    yield Claim(
        "How γ starts does not matter.",
        [
            less(f"{title} − DS-like", trial, base, "all exits", EQUAL)
            for title, trial in starts
            if trial != base
        ],
    )
    fixed = [(title, trial) for (block, title), trial in rows.items() if "fixed" in block]
    yield Claim(
        "Training with the final γ fixed is worse than letting it evolve.",
        [
            less(f"evolving − fixed, {title}", trial.source, trial, "all exits", NO_LESS)
            for title, trial in fixed
        ],
    )
    alphas = {title: trial for (block, title), trial in rows.items() if block == "α"}
    yield Claim(
        "α between 0.1 and 0.9 does not matter.",
        [
            less(f"α {title} − α 0.5", trial, base, "all exits", EQUAL)
            for title, trial in alphas.items()
            if title not in ("0.5", "1")
        ],
    )
    yield Claim(
        "α = 1 favours the early exits at the expense of the late ones.",
        [
            less("α 1 − α 0.5", alphas["1"], base, "early exits", NO_LESS),
            less("α 1 − α 0.5", alphas["1"], base, "late exits", LESS),
        ],
    )


def lever_claims(scale: Scale, choose: Choose) -> Iterator[Claim]:
    """Whether a cheaper step of γ is as good; not the paper's, but of use."""
    trials = {row.title: row.trial for row in levers(scale, choose)}
    exact = trials.pop("lookahead, every step")
    yield Claim(
        "(Ours.) Cheaper steps of γ cost no accuracy against Eq. 8 at every step.",
        [
            Comparison(f"{title} − lookahead, every step", [trial], [exact], "all exits", NO_LOSS)
            for title, trial in trials.items()
        ],
    )
