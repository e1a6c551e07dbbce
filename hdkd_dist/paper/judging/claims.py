"""State what the paper claims, each line with the comparisons that decide it.

Statements are put so that the paper's own tables fulfil them, and carry the size that they have
there. Four are primary: they were chosen before the study was run, and lead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.judging.comparisons import (
    EXIT_QUANTITIES,
    METRIC,
    THIRDS,
    Claim,
    Comparison,
    Part,
)
from hdkd_dist.paper.judging.statistics import Statement
from hdkd_dist.paper.paper_values import PRINTED, Printed
from hdkd_dist.paper.scales import Scale, Size
from hdkd_dist.paper.studies import STUDIES, Choose, Row, ablation_bench, plain
from hdkd_dist.paper.trials import Trial
from hdkd_dist.paper.tuning import SISTERS

MORE: Statement = "above 0"
LESS: Statement = "below 0"
NO_LOSS: Statement = "above −1"
ALIKE: Statement = "within ±1"

TablePlace = tuple[str, str, str]  # study, block and row of the paper's tables


@dataclass(frozen=True)
class Arm:
    """Name a side of a difference: what is trained here, and where the paper prints it."""

    title: str
    trial: Trial
    printed: TablePlace


def difference(
    plus: Arm | Sequence[Arm],
    minus: Arm | Sequence[Arm],
    quantity: str,
    statement: Statement = MORE,
    over: int = 1,
    title: str = "",
) -> Comparison:
    """Compare arms; the effect is that of the paper's own numbers."""
    added = [plus] if isinstance(plus, Arm) else list(plus)
    taken = [minus] if isinstance(minus, Arm) else list(minus)
    return Comparison(
        title or f"{sum_of(added)} − {sum_of(taken)}",
        [arm.trial for arm in added],
        [arm.trial for arm in taken],
        quantity,
        statement,
        over,
        paper_effect(
            PRINTED, [arm.printed for arm in added], [arm.printed for arm in taken], quantity, over
        ),
    )


def sum_of(arms: Sequence[Arm]) -> str:
    """Write several arms as one term: (HDBT + HDKD)."""
    titles = " + ".join(arm.title for arm in arms)
    return f"({titles})" if len(arms) > 1 else titles


def paper_effect(
    printed: Mapping[TablePlace, Printed],
    plus: Sequence[TablePlace],
    minus: Sequence[TablePlace],
    quantity: str,
    over: int = 1,
) -> float | None:
    """Take the difference that a comparison makes of our runs from the paper's tables.

    Returns:
        Points of the paper's metric, on the paper's own exits; None where it does not print all
        rows, or the quantity is not one of exits.
    """
    rows = [(sign, printed.get(place)) for sign, side in ((1, plus), (-1, minus)) for place in side]
    if quantity not in EXIT_QUANTITIES:
        return None
    measure = EXIT_QUANTITIES[quantity]
    found = [sign * measure(row.exits) for sign, row in rows if row and row.metric == METRIC]
    return sum(found) / over if len(found) == len(rows) else None


def claims(scale: Scale, choose: Choose) -> Iterator[Claim]:
    """State all claims, for runs at a scale; the primary ones first."""
    bench = ablation_bench(scale)

    def at(size: Size) -> dict[str, Arm]:
        return {
            name: Arm(
                method.title,
                plain(scale, bench, size, name, choose),
                ("2", bench.title(size), method.title),
            )
            for name, method in METHODS.items()
        }

    arms = at(bench.ablation_size)
    yield from primary(arms)
    yield from distillation(arms)
    yield from learned_weights(
        arms, [*rows_of("controls", scale, choose), *rows_of("block3", scale, choose)]
    )
    yield Claim(
        "The gain of HDKD over MSDNet grows as the data shrink.",
        [
            difference(
                (at(few)["hdkd"], at(many)["msdnet"]),
                (at(few)["msdnet"], at(many)["hdkd"]),
                "all exits",
                title=f"(HDKD − MSDNet) at {few} less at {many} images per class",
            )
            for few, many in pairwise(sorted(bench.compared))
        ],
    )
    yield from ablations(rows_of("3", scale, choose))
    yield Claim(
        "Under budgets HDKD lies above DBT and MSDNet.",
        [
            difference(arms["hdkd"], arms[name], third)
            for name in ("dbt", "msdnet")
            for third in THIRDS
        ],
    )
    yield from ours(arms, scale, choose)


def rows_of(study: str, scale: Scale, choose: Choose) -> list[Row]:
    """Return the rows of a study."""
    return list(STUDIES[study].rows(scale, choose))


def primary(arms: Mapping[str, Arm]) -> Iterator[Claim]:
    """State the four primary statements: one number per seed each."""
    msdnet, dbt, hdkd = arms["msdnet"], arms["dbt"], arms["hdkd"]
    fixed, learned = (dbt, arms["naive_dkd"]), (arms["hdbt"], hdkd)
    early = difference(
        fixed,
        (msdnet, msdnet),
        "early less late exits",
        over=2,
        title="mean of DBT and NaiveDKD − MSDNet",
    )
    last = difference(
        learned, fixed, "last exit", over=2, title="mean of HDBT − DBT and HDKD − NaiveDKD"
    )
    for text, comparison in (
        ("P1. DBT beats MSDNet at exit 1.", difference(dbt, msdnet, "exit 1")),
        ("P2. Distillation with fixed weights gains more early than late.", early),
        ("P3. HDKD beats MSDNet over all exits.", difference(hdkd, msdnet, "all exits")),
        ("P4. Learned weights beat fixed ones at the last exit.", last),
    ):
        yield Claim(text, [comparison], "primary")


def distillation(arms: Mapping[str, Arm]) -> Iterator[Claim]:
    """State what distillation gains, and where."""
    msdnet = arms["msdnet"]
    taught = [arms[name] for name in ("dbt", "naive_dkd", "hdkd")]
    yield Claim(
        "DBT, NaiveDKD and HDKD beat MSDNet at the early exits.",
        [
            *(difference(arm, msdnet, "exit 1") for arm in taught[1:]),  # DBT's is P1
            *(difference(arm, msdnet, "early exits") for arm in taught),
        ],
    )
    yield Claim(
        "NaiveDKD beats DBT at exit 1.", [difference(arms["naive_dkd"], arms["dbt"], "exit 1")]
    )
    yield Claim(
        "Late exits stagnate with DBT and NaiveDKD: they gain less than early ones.",
        [difference(arms[name], msdnet, "early less late exits") for name in ("dbt", "naive_dkd")],
    )
    for text, others in (
        ("HDKD is the best at the last exit: MSDNet, DBT, NaiveDKD.", [*taught[:2], msdnet]),
        (
            "HDKD is the best at the last exit, second tier: HMSDNet, Impr, HDBT.",
            [arms[name] for name in ("hmsdnet", "impr", "hdbt")],
        ),
    ):
        yield Claim(text, [difference(arms["hdkd"], other, "last exit") for other in others])


def learned_weights(arms: Mapping[str, Arm], controls: Sequence[Row]) -> Iterator[Claim]:
    """State that learned weights help, family by family, with controls of where it comes from."""
    for learned, sister in SISTERS.items():
        more, base = arms[learned], arms[sister]
        # HMSDNet has no teachers; the paper does not say that it gains most late.
        text = f"Learned weights help: {more.title} beats {base.title} over all exits."
        stated = [difference(more, base, "all exits")]
        if METHODS[learned].teachers != "none":
            text = (
                f"Learned weights help: {more.title} beats {base.title} at the last exit, and late "
                "more than early."
            )
            stated = [
                difference(more, base, "last exit"),
                difference(more, base, "late less early exits"),
            ]
        own = [row for row in controls if row.trial.method in (learned, sister)]
        parts = [part for row in own for part in parts_of(more, base, row, stated[0].quantity)]
        yield Claim(text, [*stated, *parts])
    families = [arms[name] for name in SISTERS], [arms[name] for name in SISTERS.values()]
    yield Claim(
        "(Ours, suggested by the first study's Table 2.) Learned weights help over all exits, the "
        "three families taken together.",
        [
            difference(
                *families,
                "all exits",
                over=len(SISTERS),
                title="mean of the three learned − fixed",
            )
        ],
        "exploratory",
    )


def parts_of(learned: Arm, sister: Arm, row: Row, quantity: str) -> Iterator[Comparison]:
    """Divide the gain of a learned method over its sister by a control that lies between them.

    Either the sister with the size of the learned γ, or the learned method with the size of the
    sister's; none where the control is one of the two.
    """
    control = row.trial
    if control in (learned.trial, sister.trial):
        return
    method = METHODS[control.method].title
    title = f"{method} with {row.title.removeprefix(f'{method}, ')}"
    above = (f"{learned.title} − {title}", learned.trial, control)
    below = (f"{title} − {sister.title}", control, sister.trial)
    sized = control.method == sister.trial.method
    sides: dict[Part, tuple[str, Trial, Trial]] = {
        "proportions": above if sized else below,
        "size": below if sized else above,
    }
    for part, (words, plus, minus) in sides.items():
        yield Comparison(words, [plus], [minus], quantity, MORE, part=part)


def ablations(rows: Sequence[Row]) -> Iterator[Claim]:
    """State what Table 3 shows."""
    arms = {
        (row.block, row.title): Arm(row.title, row.trial, ("3", row.block, row.title))
        for row in rows
    }
    base, random, dbt_like = (
        arms["initial γ", title] for title in ("DS-like", "random", "DBT-like")
    )
    yield Claim(
        "A random start of γ is as good as the DS-like one.",
        [difference(random, base, "all exits", ALIKE)],
    )
    yield Claim(
        "A DBT-like start of γ is worse than the DS-like one (the paper's Table 3; its text says "
        "that starts do not matter).",
        [difference(dbt_like, base, "all exits", LESS)],
    )
    evolving = {arm.trial.name: arm for arm in (base, dbt_like)}
    fixed = [(arm, arm.trial.source) for (block, _), arm in arms.items() if "fixed" in block]
    yield Claim(
        "γ fixed at its final value is worse at the late exits than γ that evolves.",
        [
            difference(other, arm, "late exits", title=f"{other.title} − fixed {arm.title}")
            for arm, source in fixed
            if source is not None
            for other in (evolving[source.name], random)
        ],
    )
    alphas = {float(title): arm for (block, title), arm in arms.items() if block == "α"}
    usual = alphas.pop(0.5)

    def against(alpha: float, quantity: str, statement: Statement) -> Comparison:
        title = f"α {alpha:g} − α 0.5"
        return difference(alphas[alpha], usual, quantity, statement, title=title)

    yield Claim(
        "α does not matter in a wide range. Where the exits' losses are close α can change little, "
        "and only α = 0 could show anything.",
        [against(alpha, "all exits", ALIKE) for alpha in alphas if alpha < 1],
    )
    yield Claim(
        "α = 1 favours the first exit at the expense of the late ones.",
        [against(1, "exit 1", MORE), against(1, "late exits", LESS)],
    )


def ours(arms: Mapping[str, Arm], scale: Scale, choose: Choose) -> Iterator[Claim]:
    """State what the paper has no experiment for, but a user wants to know."""
    hdkd = arms["hdkd"]
    for row in rows_of("block6", scale, choose):
        letter = Arm("HDKD by Algorithm 1 to the letter", row.trial, hdkd.printed)
        yield Claim(
            "HDKD by Algorithm 1 to the letter beats MSDNet over all exits and NaiveDKD at the "
            "last.",
            [
                difference(letter, arms["msdnet"], "all exits"),
                difference(letter, arms["naive_dkd"], "last exit"),
            ],
        )
        yield Claim(
            "(Ours.) The rule of γ chosen here loses less than a point against Algorithm 1 to the "
            "letter.",
            [Comparison(f"HDKD − {letter.title}", [hdkd.trial], [row.trial], "all exits", NO_LOSS)],
        )
    yield Claim(
        "HDKD combines with gradient equilibrium and gains further (the abstract says so, without "
        "an experiment).",
        [
            Comparison(
                "HDKD with gradient equilibrium − HDKD",
                [row.trial],
                [hdkd.trial],
                "all exits",
                MORE,
            )
            for row in rows_of("equilibrium", scale, choose)
        ],
    )
    trials = {row.title: row.trial for row in rows_of("levers", scale, choose)}
    exact = trials.pop("lookahead, every step")
    yield Claim(
        "(Ours.) Cheaper steps of γ lose less than a point against Eq. 8 at every step, to which "
        "all of them are compared.",
        [
            Comparison(f"{title} − lookahead, every step", [trial], [exact], "all exits", NO_LOSS)
            for title, trial in trials.items()
            if trial != exact
        ],
    )
