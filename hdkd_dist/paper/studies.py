"""Define the paper's tables and figure, and the studies around them: which run fills which row.

A row is a trial over several seeds; its cells are the exits. What the paper prints beside it stands
in ``paper_values.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.scales import Bench, Scale, Setting, Size
from hdkd_dist.paper.trials import (
    GAMMA_CONSTRAINT,
    GAMMA_EVERY,
    GAMMA_INIT,
    GAMMA_OPTIMIZER,
    GAMMA_RATE,
    RATE,
    Trial,
    same_steps,
    settings_of,
)
from hdkd_dist.paper.tuning import FIXED_NORM, SISTERS

Choose = Callable[[str], Setting]  # the settings of a method


@dataclass(frozen=True)
class Row:
    """Describe one line of a table.

    Attributes:
        block: the part of the table: CIFAR(150).
        title: HDKD.
        trial: with any seed.
        seeds: the row is the mean over them.
    """

    block: str
    title: str
    trial: Trial
    seeds: tuple[int, ...]

    @property
    def trials(self) -> list[Trial]:
        """Return the row's runs."""
        return [self.trial.with_seed(seed) for seed in self.seeds]


@dataclass(frozen=True)
class Study:
    """Describe a table, or another group of runs.

    Attributes:
        title: for people.
        rows: of a scale.
        table: the paper's table of which it has rows: "1", "2", "3"; "" for none.
    """

    title: str
    rows: Callable[[Scale, Choose], Iterator[Row]]
    table: str = ""


def plain(scale: Scale, bench: Bench, size: Size, method: str, choose: Choose) -> Trial:
    """Return a method as it is, with its settings."""
    settings = {**same_steps(bench, size), **choose(method)}
    return Trial(scale.name, bench, size, method, settings=settings)


def changed(trial: Trial, variant: str, settings: Setting) -> Trial:
    """Return a run with something changed, named by a word."""
    return replace(trial, variant=variant, settings={**trial.settings, **settings})


def ablation_bench(scale: Scale) -> Bench:
    """Return where everything but Tables 1 to 3 and Figure 2 is computed."""
    return scale.benches["cifar100"]


def ablated(scale: Scale, choose: Choose, variant: str, settings: Setting) -> Trial:
    """Return HDKD with something changed, on the bench of the ablations."""
    bench = ablation_bench(scale)
    return changed(plain(scale, bench, bench.ablation_size, "hdkd", choose), variant, settings)


def methods_table(dataset: str) -> Callable[[Scale, Choose], Iterator[Row]]:
    """List Tables 1 and 2: sizes × the seven methods."""

    def rows(scale: Scale, choose: Choose) -> Iterator[Row]:
        if bench := scale.benches.get(dataset):
            for size in bench.sizes:
                yield from method_rows(scale, bench, size, list(METHODS), choose)

    return rows


def method_rows(
    scale: Scale, bench: Bench, size: Size, methods: Sequence[str], choose: Choose
) -> Iterator[Row]:
    """List some methods on one data set, with the seeds of the tables."""
    for name in methods:
        trial = plain(scale, bench, size, name, choose)
        yield Row(bench.title(size), METHODS[name].title, trial, scale.seeds)


def methods_block(*methods: str) -> Callable[[Scale, Choose], Iterator[Row]]:
    """List a part of Table 2's methods, on the bench of the ablations."""

    def rows(scale: Scale, choose: Choose) -> Iterator[Row]:
        bench = ablation_bench(scale)
        yield from method_rows(scale, bench, bench.ablation_size, methods, choose)

    return rows


ALPHAS = (0, 0.1, 0.5, 0.9, 1)  # the paper's; 0.5 is its default


def table_3(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Vary how γ starts, whether it may evolve, and α of Eq. 10."""
    bench, size = next(
        (bench, bench.table_3_size)
        for bench in scale.benches.values()
        if bench.table_3_size is not None
    )
    hdkd = plain(scale, bench, size, "hdkd", choose)
    starts = {
        "DS-like": hdkd,
        "DBT-like": changed(hdkd, "dbt_like", {GAMMA_INIT: "dbt_like"}),
        "random": changed(hdkd, scale.random_start, {GAMMA_INIT: scale.random_start}),
    }
    for title, trial in starts.items():
        yield Row("initial γ", title, trial, scale.ablation_seeds)
    for title in ("DS-like", "DBT-like"):
        learned = starts[title]
        variant = "-".join(part for part in ("fixed", learned.variant) if part)
        fixed = replace(hdkd, variant=variant, takes="final_gamma", source=learned)
        yield Row("γ fixed at its final value", f"from {title}", fixed, scale.ablation_seeds)
    for alpha in ALPHAS:
        other = changed(hdkd, f"alpha{alpha:g}", {"hdkd.gamma.alpha": alpha})
        yield Row("α", f"{alpha:g}", hdkd if alpha == 0.5 else other, scale.ablation_seeds)


def figure_2(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Train networks of several depths, for curves of budgets."""
    for bench in scale.benches.values():
        if (size := bench.figure_2_size) is None:
            continue
        for depth, network in bench.depths.items():
            for method in ("msdnet", "dbt", "hdkd"):
                trial = plain(scale, bench, size, method, choose)
                if network:
                    trial = changed(trial, depth.replace(" ", "_"), network)
                block = f"{bench.title(size)}, {depth}"
                yield Row(block, METHODS[method].title, trial, scale.ablation_seeds)


CONTROLS = {
    "replayed_sum": "Σγ/Σγ₀ replayed",
    "mean_sum_as_rate": "rate × mean Σγ/Σγ₀",
}


def controls(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Give the fixed sisters the size, but not the proportions, of the learned runs' γ."""
    bench = ablation_bench(scale)
    for learned, sister in SISTERS.items():
        source = plain(scale, bench, bench.ablation_size, learned, choose)
        as_it_is = plain(scale, bench, bench.ablation_size, sister, choose)
        constant = settings_of(source).gamma.constraint == "fixed_sum"  # then it is its control
        for takes, title in CONTROLS.items():
            control = replace(as_it_is, variant=takes, takes=takes, source=source)
            block = f"{METHODS[sister].title} as {METHODS[learned].title}"
            yield Row(block, title, as_it_is if constant else control, scale.seeds)


def compared_sizes(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Measure HDKD's gain over MSDNet as the data shrink."""
    bench = ablation_bench(scale)
    for size in bench.compared:
        yield from method_rows(scale, bench, size, ("msdnet", "hdkd"), choose)


def equilibrium(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Combine HDKD with another technique."""
    settings = {"hdkd.model.gradient_equilibrium": True}
    trial = ablated(scale, choose, "equilibrium", settings)
    yield Row("HDKD", "with gradient equilibrium", trial, scale.ablation_seeds)


LEVER_SEEDS = tuple(range(5))  # with fewer a loss of a point cannot be told from none
STEPS_OF_GAMMA = {1: "every step", 2: "every 2nd step", 5: "every 5th step"}


def levers(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Make a step of γ cheaper; γ's rate is such that it goes as far in an epoch."""
    as_it_is = ablated(scale, choose, "", {})
    usual = settings_of(as_it_is)
    half = ablation_bench(scale).read_config()["train_batch_size"] // 2

    def lever(kind: str, every: int, variant: str, **settings: object) -> Row:
        rate = usual.gamma.lr  # the default takes the number of γ's steps into account
        own = {
            "hdkd.gamma.lookahead": kind,
            GAMMA_EVERY: every,
            **({} if rate is None else {GAMMA_RATE: rate * every / usual.gamma.every}),
            **settings,
        }
        trial = changed(as_it_is, variant, own)
        same = settings_of(trial) == usual
        title = f"{kind}, {STEPS_OF_GAMMA[every]}"
        return Row("HDKD", title, as_it_is if same else trial, LEVER_SEEDS)

    for kind, every in (
        ("online", 2),
        ("online", 1),
        ("online", 5),
        ("lookahead", 1),
        ("lookahead", 2),
    ):
        yield lever(kind, every, f"{kind}{every}")
    halved = lever("online", 2, "half_metaval", **{"hdkd.data.metaval_batch_size": half})
    yield replace(halved, title=f"{halved.title}, half the meta-validation batch")


# How much Σγ grew in pilots: what learning γ gains must be more than a rate so much higher does.
SIZE_AS_RATE = {"msdnet": 1.4, "dbt": 1.3}


def size_controls(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Try a larger step without learned weights, and learned weights without a larger step."""
    bench = ablation_bench(scale)

    def row(method: str, what: str, trial: Trial) -> Row:
        title = f"{METHODS[method].title}, {what}"
        return Row(bench.title(bench.ablation_size), title, trial, scale.ablation_seeds)

    for method, factor in SIZE_AS_RATE.items():
        trial = plain(scale, bench, bench.ablation_size, method, choose)
        faster = changed(trial, f"rate{factor:g}", {RATE: round(factor * trial.rate, 6)})
        yield row(method, f"rate × {factor:g}", faster)
    for method in ("hdkd", "hdbt"):
        trial = plain(scale, bench, bench.ablation_size, method, choose)
        same_size = changed(trial, "fixed_norm", FIXED_NORM)
        already = settings_of(trial).gamma.constraint == "fixed_norm"
        yield row(method, "‖∇L_train‖ kept", trial if already else same_size)


def starts_and_fixed(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Take three columns of Table 3: other starts of γ, and γ that does not evolve."""
    wanted = {"DBT-like", "random", "from DS-like"}
    yield from (row for row in table_3(scale, choose) if row.title in wanted)


PILOT_RATE = 0.3  # ε of plain gradient descent at every 4th step, where γ's rule is another


def to_the_letter(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Train HDKD by Algorithm 1: look-ahead at every step, plain gradient descent, no constraint.

    ε, which the paper does not give, is such that γ goes as far in an epoch as under the rule of
    the other blocks, if that is plain gradient descent too.
    """
    usual = settings_of(ablated(scale, choose, "", {})).gamma
    rate = usual.lr if usual.lr and usual.optimizer == "sgd" else PILOT_RATE
    letter = {
        "hdkd.gamma.lookahead": "lookahead",
        GAMMA_EVERY: 1,
        GAMMA_OPTIMIZER: "sgd",
        GAMMA_RATE: rate / usual.every,
        GAMMA_CONSTRAINT: "none",
    }
    trial = ablated(scale, choose, "letter", letter)
    yield Row("HDKD", "by Algorithm 1 to the letter", trial, scale.ablation_seeds)


STUDIES: dict[str, Study] = {
    "1": Study("Table 1: ImageNet(X)", methods_table("imagenet"), "1"),
    "2": Study("Table 2: CIFAR(X)", methods_table("cifar100"), "2"),
    "controls": Study("Controls: the size of γ without its proportions", controls),
    "3": Study("Table 3: ablations of HDKD", table_3, "3"),
    "equilibrium": Study("HDKD with gradient equilibrium", equilibrium),
    "levers": Study("Look-ahead kinds and levers", levers),
    "sizes": Study("The gain of HDKD as the data shrink", compared_sizes),
    "figure2": Study("Figure 2: networks of several depths", figure_2),
    "block1": Study(
        "Block 1: what distillation and learned weights gain",
        methods_block("msdnet", "dbt", "naive_dkd", "hdbt", "hdkd"),
        "2",
    ),
    "block2": Study("Block 2: the other methods", methods_block("hmsdnet", "impr"), "2"),
    "block3": Study("Block 3: controls of the size of a step", size_controls),
    "block4": Study("Block 4: how γ starts, and γ fixed at its final value", starts_and_fixed, "3"),
    "block6": Study("Block 6: Algorithm 1 to the letter", to_the_letter),
}
