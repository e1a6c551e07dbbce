"""Choose on the validation split, before the tables: the regime, then γ's rule.

Stage 0 trains MSDNet alone, so that nothing about the methods is seen: it chooses the network whose
exits differ most, and a learning rate at which a larger step neither helps nor harms, for learned
weights also grow and a gain from that would pass for harmony. Stage 0b chooses how γ learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.scales import Scale, Setting, preset
from hdkd_dist.paper.trials import GAMMA_CONSTRAINT, GAMMA_OPTIMIZER, GAMMA_RATE, RATE, Trial

STAGES = {
    "stage0": "Stage 0: network and learning rate",
    "stage0b": "Stage 0b: how γ learns",
}
NETWORK_SEED, RULE_SEEDS = 100, (101, 102)  # no seeds of a table
RULE_METHODS = ("hdkd", "hdbt")

NETWORKS: dict[str, Setting] = {"tiny": {}, "gap": preset("msdnet-cifar-gap")}
RATES = (0.05, 0.1, 0.2, 0.4)  # each twice the one before
LEAST_GAP = 5.0  # points of top-5 between the first and the last exit
PLATEAU = 1.0  # points of top-5 that the double of a rate may lie below the best


def _rule(optimizer: str, rate: float, constraint: str) -> Setting:
    return {GAMMA_OPTIMIZER: optimizer, GAMMA_RATE: rate, GAMMA_CONSTRAINT: constraint}


RULES: dict[str, Setting] = {
    "adam0.002": _rule("adam", 2e-3, "nonnegative"),
    "adam0.0003": _rule("adam", 3e-4, "nonnegative"),
    **{f"sgd{rate:g}": _rule("sgd", rate, "none") for rate in (0.1, 0.3, 1)},  # Alg. 1's rule
}
FIXED_NORM: Setting = {GAMMA_CONSTRAINT: "fixed_norm"}  # on top of the best of RULES

# A method whose γ is learned starts where its fixed sister stands: it has the settings of the
# sister's loss and rate, so that a difference between the two is due to γ.
SISTERS = {"hmsdnet": "msdnet", "hdbt": "dbt", "hdkd": "naive_dkd"}

Validation = Callable[[str], Sequence[float] | None]
"""A finished run's top-5 on the validation split per exit, by name; None while it is not there."""


class Untuned(ValueError):
    """Say that something is not chosen yet that a study builds on."""


@dataclass(frozen=True)
class Tried:
    """Hold what one network at one learning rate reached, trained as MSDNet.

    Attributes:
        network: a key of ``NETWORKS``.
        rate: schedule.base_lr.
        top5: on the validation split, per exit.
    """

    network: str
    rate: float
    top5: Sequence[float]

    @property
    def gap(self) -> float:
        """Return how much better the last exit is than the first: what there is to distil."""
        return self.top5[-1] - self.top5[0]

    @property
    def mean(self) -> float:
        """Average over the exits."""
        return fmean(self.top5)


def network_trials(scale: Scale) -> dict[tuple[str, float], Trial]:
    """Name the runs of stage 0, by network and rate."""
    bench = scale.benches["cifar100"]
    return {
        (network, rate): Trial(
            scale.name,
            bench,
            bench.ablation_size,
            "msdnet",
            f"stage0-{network}-rate{rate:g}",
            NETWORK_SEED,
            {**changed, RATE: rate},
            test=False,
        )
        for rate in RATES
        for network, changed in NETWORKS.items()
    }


def plateau(tried: Sequence[Tried]) -> Tried | None:
    """Return the best run of a network among those at whose double rate it is near the best.

    The run itself is not held to that: with one seed the rule would choose by its noise.
    """
    by_rate = {each.rate: each for each in tried}
    least = max(each.mean for each in tried) - PLATEAU
    level = [
        each for each in tried if 2 * each.rate in by_rate and by_rate[2 * each.rate].mean >= least
    ]
    return max(level, key=lambda each: each.mean, default=None)


def choose_network(tried: Sequence[Tried]) -> Tried:
    """Return the network with the larger gap at its chosen rate.

    Raises:
        Untuned: if no network has a gap worth a study at a rate on its plateau.
    """
    found = [
        chosen
        for network in NETWORKS
        if (chosen := plateau([each for each in tried if each.network == network]))
        and chosen.gap >= LEAST_GAP
    ]
    if not found:
        raise Untuned(
            f"stage 0 has found no network with {LEAST_GAP:g} points of top-5 between its exits at "
            "a rate whose double is as good: try others, in hdkd_dist/paper/tuning.py"
        )
    return max(found, key=lambda each: each.gap)


def networks_tried(scale: Scale, validation: Validation) -> list[Tried]:
    """Return what stage 0 has tried so far."""
    return [
        Tried(network, rate, top5)
        for (network, rate), trial in network_trials(scale).items()
        if (top5 := validation(trial.name)) is not None
    ]


def chosen_network(scale: Scale, validation: Validation) -> Setting:
    """Return the settings that stage 0 has chosen.

    Raises:
        Untuned: if it is not finished, or as ``choose_network``.
    """
    _require(list(network_trials(scale).values()), "stage0", scale, validation)
    best = choose_network(networks_tried(scale, validation))
    return {**NETWORKS[best.network], RATE: best.rate}


def rule_trials(scale: Scale, name: str, settings: Setting) -> list[Trial]:
    """Name the runs of stage 0b that try one rule; ``settings`` has stage 0's choice as well."""
    bench = scale.benches["cifar100"]
    size = bench.ablation_size
    return [
        Trial(
            scale.name, bench, size, method, f"stage0b-{name}", seed, settings=settings, test=False
        )
        for seed in RULE_SEEDS
        for method in RULE_METHODS
    ]


def rules_tried(scale: Scale, network: Setting, validation: Validation) -> dict[str, list[Trial]]:
    """Name the runs of stage 0b that can be named by now, by rule."""
    found = {name: rule_trials(scale, name, {**network, **rule}) for name, rule in RULES.items()}
    if all(validation(trial.name) for trials in found.values() for trial in trials):
        best = RULES[best_rule(found, validation)]
        found["fixed_norm"] = rule_trials(scale, "fixed_norm", {**network, **best, **FIXED_NORM})
    return found


def rule_score(trials: Sequence[Trial], validation: Validation) -> float:
    """Return a rule's mean top-5 on validation, over exits, methods and seeds."""
    return fmean(fmean(validation(trial.name) or ()) for trial in trials)


def best_rule(tried: Mapping[str, Sequence[Trial]], validation: Validation) -> str:
    """Return the name of the rule with the best mean; all its runs are finished."""
    return max(tried, key=lambda name: rule_score(tried[name], validation))


def chosen_rule(scale: Scale, validation: Validation) -> Setting:
    """Return the settings of γ that stage 0b has chosen.

    Raises:
        Untuned: if it, or stage 0, is not finished.
    """
    tried = rules_tried(scale, chosen_network(scale, validation), validation)
    _require([trial for own in tried.values() for trial in own], "stage0b", scale, validation)
    settings = tried[best_rule(tried, validation)][0].settings
    return {name: settings[name] for name in (GAMMA_OPTIMIZER, GAMMA_RATE, GAMMA_CONSTRAINT)}


def _require(trials: Sequence[Trial], stage: str, scale: Scale, validation: Validation) -> None:
    missing = [trial.name for trial in trials if validation(trial.name) is None]
    if missing:
        raise Untuned(
            f"{stage} has not chosen yet ({len(missing)} of {len(trials)} runs are missing): "
            f"reproduce.py run --table {stage} --scale {scale.name}"
        )


def chosen(scale: Scale, method: str, validation: Validation) -> Setting:
    """Return a method's settings in all studies.

    Raises:
        Untuned: if they are not chosen yet.
    """
    learns = METHODS[method].learns
    own = scale.learned if learns else {}
    if not scale.tuned:
        return own
    rule = chosen_rule(scale, validation) if learns else {}
    return {**own, **chosen_network(scale, validation), **rule}


def chosen_or_default(scale: Scale, method: str, validation: Validation) -> Setting:
    """Return a method's settings as far as they are chosen by now."""
    for name in (method, SISTERS.get(method, method)):  # a sister needs no rule of γ
        try:
            return chosen(scale, name, validation)
        except Untuned:
            continue
    return {}


def stage_trials(stage: str, scale: Scale, validation: Validation) -> list[Trial]:
    """Name the runs of a stage that can be named by now.

    Raises:
        Untuned: if none can, for the stage before has not chosen yet.
    """
    if not scale.tuned:
        return []
    if stage == "stage0":
        return list(network_trials(scale).values())
    tried = rules_tried(scale, chosen_network(scale, validation), validation)
    return [trial for trials in tried.values() for trial in trials]


def planned_stage(stage: str, scale: Scale, validation: Validation) -> list[Trial]:
    """Name all runs of a stage; what is not chosen yet may still change their settings."""
    if not scale.tuned or stage == "stage0":
        return stage_trials(stage, scale, validation)
    network = chosen_or_default(scale, "msdnet", validation)
    tried = rules_tried(scale, network, validation)
    first = next(iter(RULES.values()))
    tried.setdefault(
        "fixed_norm", rule_trials(scale, "fixed_norm", {**network, **first, **FIXED_NORM})
    )
    return [trial for trials in tried.values() for trial in trials]
