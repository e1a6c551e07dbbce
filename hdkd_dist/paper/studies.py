"""The paper's tables and figure, and the studies around them, as data: which run fills which row.

A row is a trial over several seeds; its cells are the exits. What the paper prints beside it stands
in ``paper_values.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hdkd_dist.config.settings import GammaSettings
from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.scales import Bench, Scale, Size
from hdkd_dist.paper.trials import GAMMA_RATE, Trial, settings_of
from hdkd_dist.paper.tuning import SISTERS, Setting

Choose = Callable[[str], Setting]  # the settings of a method


@dataclass(frozen=True)
class Row:
    """One line of a table.

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
        """The row's runs."""
        return [self.trial.with_seed(seed) for seed in self.seeds]


@dataclass(frozen=True)
class Study:
    """A table, or another group of runs.

    Attributes:
        title: for people.
        rows: of a scale.
    """

    title: str
    rows: Callable[[Scale, Choose], Iterator[Row]]


def plain(scale: Scale, bench: Bench, size: Size, method: str, choose: Choose) -> Trial:
    """A method as it is, with its settings."""
    return Trial(scale.name, bench, size, method, settings=choose(method))


def ablated(scale: Scale, choose: Choose, variant: str, settings: Setting) -> Trial:
    """HDKD with something changed, on the bench of the ablations."""
    bench = ablation_bench(scale)
    own = {**choose("hdkd"), **settings}
    return Trial(scale.name, bench, bench.ablation_size, "hdkd", variant, settings=own)


def ablation_bench(scale: Scale) -> Bench:
    """Where everything but the tables of methods is computed."""
    return scale.benches["cifar100"]


def methods_table(dataset: str) -> Callable[[Scale, Choose], Iterator[Row]]:
    """Tables 1 and 2: sizes × the seven methods."""

    def rows(scale: Scale, choose: Choose) -> Iterator[Row]:
        bench = scale.benches.get(dataset)
        if bench is None:
            return
        for size in bench.sizes:
            for name, method in METHODS.items():
                trial = plain(scale, bench, size, name, choose)
                yield Row(bench.title(size), method.title, trial, scale.seeds)

    return rows


def table_3(scale: Scale, choose: Choose) -> Iterator[Row]:
    """How γ starts, whether it may evolve, and α of Eq. 10."""
    seeds = scale.ablation_seeds

    def row(block: str, title: str, variant: str, **changed: object) -> Row:
        settings = {f"hdkd.gamma.{name}": value for name, value in changed.items()}
        return Row(block, title, ablated(scale, choose, variant, settings), seeds)

    starts = {
        "DS-like": row("initial γ", "DS-like", ""),
        "DBT-like": row("initial γ", "DBT-like", "dbt_like", init="dbt_like"),
        "random": row("initial γ", "random", "random", init="random"),
    }
    yield from starts.values()
    for title in ("DS-like", "DBT-like"):
        learned = starts[title].trial
        variant = "-".join(part for part in ("fixed", learned.variant) if part)
        trial = Trial(
            scale.name,
            learned.bench,
            learned.size,
            "hdkd",
            variant,
            settings=choose("hdkd"),
            takes="final_gamma",
            source=learned,
        )
        yield Row("γ fixed at its final value", f"from {title}", trial, seeds)
    for alpha in (0.1, 0.3, 0.5, 0.9, 1):
        if alpha == 0.5:  # the default
            yield row("α", "0.5", "")
        else:
            yield row("α", f"{alpha:g}", f"alpha{alpha:g}", alpha=alpha)


def figure_2(scale: Scale, choose: Choose) -> Iterator[Row]:
    """Budgeted curves: networks of several depths."""
    for bench in scale.benches.values():
        for depth, changed in bench.depths.items():
            for method in ("msdnet", "dbt", "hdkd"):
                variant = depth.replace(" ", "_") if changed else ""
                settings = {**choose(method), **changed}
                size = bench.ablation_size
                trial = Trial(scale.name, bench, size, method, variant, settings=settings)
                block = f"{bench.title(size)}, {depth}"
                yield Row(block, METHODS[method].title, trial, scale.ablation_seeds)


CONTROLS = {
    "replayed_sum": "Σγ/Σγ₀ replayed",
    "mean_sum_as_rate": "rate × mean Σγ/Σγ₀",
}


def controls(scale: Scale, choose: Choose) -> Iterator[Row]:
    """The fixed sisters with the size, but not the proportions, of the learned runs' γ."""
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
    """HDKD's gain over MSDNet as the data shrink."""
    bench = ablation_bench(scale)
    for size in bench.compared:
        for method in ("msdnet", "hdkd"):
            trial = plain(scale, bench, size, method, choose)
            yield Row(bench.title(size), METHODS[method].title, trial, scale.seeds)


def equilibrium(scale: Scale, choose: Choose) -> Iterator[Row]:
    """HDKD together with another technique."""
    changed = {"hdkd.model.gradient_equilibrium": True}
    trial = ablated(scale, choose, "equilibrium", changed)
    yield Row("HDKD", "with gradient equilibrium", trial, scale.ablation_seeds)


def levers(scale: Scale, choose: Choose) -> Iterator[Row]:
    """What makes a step of γ cheaper; γ's rate is such that it goes as far in an epoch."""
    config = ablation_bench(scale).read_config()
    usual = GammaSettings(**config["hdkd"].get("gamma", {}))
    rate = choose("hdkd").get(GAMMA_RATE, usual.lr)

    def steps(kind: str, every: int) -> dict[str, object]:
        return {
            "hdkd.gamma.lookahead": kind,
            "hdkd.gamma.every": every,
            GAMMA_RATE: rate * every / usual.every,
        }

    half = {"hdkd.data.metaval_batch_size": config["train_batch_size"] // 2}
    changes: dict[str, tuple[str, Setting]] = {
        "online, every 2nd step": ("", {}),
        "online, every step": ("online1", steps("online", 1)),
        "online, every 5th step": ("online5", steps("online", 5)),
        "lookahead, every step": ("lookahead1", steps("lookahead", 1)),
        "lookahead, every 2nd step": ("lookahead2", steps("lookahead", 2)),
        "online, every 2nd step, half the meta-validation batch": ("half_metaval", half),
    }
    for title, (variant, changed) in changes.items():
        trial = ablated(scale, choose, variant, changed)
        yield Row("HDKD", title, trial, scale.ablation_seeds)


STUDIES: dict[str, Study] = {
    "1": Study("Table 1: ImageNet(X)", methods_table("imagenet")),
    "2": Study("Table 2: CIFAR(X)", methods_table("cifar100")),
    "controls": Study("Controls: the size of γ without its proportions", controls),
    "3": Study("Table 3: ablations of HDKD", table_3),
    "equilibrium": Study("HDKD with gradient equilibrium", equilibrium),
    "levers": Study("Look-ahead kinds and levers", levers),
    "sizes": Study("The gain of HDKD as the data shrink", compared_sizes),
    "figure2": Study("Figure 2: networks of several depths", figure_2),
}
