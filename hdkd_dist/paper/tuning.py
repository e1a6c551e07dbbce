"""The search for each method's settings: the same number for all, judged on validation only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hdkd_dist.method.weights import METHODS
from hdkd_dist.paper.scales import Scale
from hdkd_dist.paper.trials import GAMMA_RATE, RATE, Trial

SEED = 100  # no seed of a table
Setting = Mapping[str, Any]

# A method whose γ is learned starts where its fixed sister stands: it takes over the settings of
# the sister's loss and rate, so that a difference between the two is due to γ.
SISTERS = {"hmsdnet": "msdnet", "hdbt": "dbt", "hdkd": "naive_dkd"}

_T, _LAMBDA = "hdkd.loss.temperature", "hdkd.loss.kd_weight"
_OPTIMIZER, _CONSTRAINT = "hdkd.gamma.optimizer", "hdkd.gamma.constraint"

_WITHOUT_TEACHER: dict[str, Setting] = {
    "rate0.05": {RATE: 0.05},
    "rate0.025": {RATE: 0.025},
    "rate0.1": {RATE: 0.1},
    "rate0.2": {RATE: 0.2},
}
_TAUGHT: dict[str, Setting] = {
    "T3": {_T: 3, _LAMBDA: 1, RATE: 0.05},
    "T1": {_T: 1, _LAMBDA: 1, RATE: 0.05},
    "T3-rate0.025": {_T: 3, _LAMBDA: 1, RATE: 0.025},
    "T1-half": {_T: 1, _LAMBDA: 0.5, RATE: 0.05},
}
_LEARNED: dict[str, Setting] = {
    "adam1e-3": {_OPTIMIZER: "adam", GAMMA_RATE: 1e-3, _CONSTRAINT: "nonnegative"},
    "adam3e-4": {_OPTIMIZER: "adam", GAMMA_RATE: 3e-4, _CONSTRAINT: "nonnegative"},
    "adam1e-3-fixed_sum": {_OPTIMIZER: "adam", GAMMA_RATE: 1e-3, _CONSTRAINT: "fixed_sum"},
    "sgd0.1": {_OPTIMIZER: "sgd", GAMMA_RATE: 0.1, _CONSTRAINT: "nonnegative"},
}

CANDIDATES: dict[str, dict[str, Setting]] = {
    name: _LEARNED if method.learns else _WITHOUT_TEACHER if method.teachers == "none" else _TAUGHT
    for name, method in METHODS.items()
}

Scores = Mapping[str, float]  # by a trial's name: validation top-1, mean over exits


class Untuned(ValueError):
    """The search that a study builds on is not finished."""


def tuning_trials(scale: Scale, scores: Scores) -> list[Trial]:
    """The runs of the search that can be named by now: a sister's come before its learned one's."""
    trials: list[Trial] = []
    for method in sorted(METHODS, key=lambda name: METHODS[name].learns):
        try:
            trials += candidates(scale, method, scores).values()
        except Untuned:
            continue
    return trials


def candidates(scale: Scale, method: str, scores: Scores) -> dict[str, Trial]:
    """A method's settings, tried with one seed.

    Raises:
        Untuned: if the sister's settings, on which they build, are not known yet.
    """
    sister = chosen(scale, SISTERS[method], scores) if method in SISTERS else {}
    return candidates_from(scale, method, sister)


def planned_tuning(scale: Scale, choose: Callable[[str], Setting]) -> list[Trial]:
    """All runs of the search, with the settings of the sisters as ``choose`` has them by now."""
    if not scale.tuned:
        return []
    found: list[Trial] = []
    for method in sorted(METHODS, key=lambda name: METHODS[name].learns):
        sister = choose(SISTERS[method]) if method in SISTERS else {}
        found += candidates_from(scale, method, sister).values()
    return found


def candidates_from(scale: Scale, method: str, sister: Setting) -> dict[str, Trial]:
    """A method's settings on top of its sister's."""
    bench = scale.benches["cifar100"]
    return {
        name: Trial(
            scale.name,
            bench,
            bench.ablation_size,
            method,
            f"tune-{name}",
            SEED,
            {**sister, **setting},
            test=False,
        )
        for name, setting in CANDIDATES[method].items()
    }


def best(scale: Scale, method: str, scores: Scores) -> str:
    """The name of the method's best candidate.

    Raises:
        Untuned: if not all have been tried.
    """
    tried = candidates(scale, method, scores)
    missing = [trial.name for trial in tried.values() if trial.name not in scores]
    if missing:
        raise Untuned(
            f"{method} is not tuned yet ({len(missing)} of {len(tried)} runs are missing): "
            f"reproduce.py run --table tuning --scale {scale.name}"
        )
    return max(tried, key=lambda name: scores[tried[name].name])


def chosen(scale: Scale, method: str, scores: Scores) -> Setting:
    """The settings of a method in all studies; none where the scale is not tuned.

    Raises:
        Untuned: if the search is not finished.
    """
    if not scale.tuned:
        return {}
    return candidates(scale, method, scores)[best(scale, method, scores)].settings
