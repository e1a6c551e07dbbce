"""Made-up runs of some methods, of which the truth is known."""

from __future__ import annotations

from made_up import SMALL, no_settings, record

from hdkd_dist.paper.judging.comparisons import Comparison, Evidence
from hdkd_dist.paper.studies import plain

BENCH = SMALL.benches["cifar100"]
SEEDS = tuple(range(8))
METHODS = ("msdnet", "dbt", "naive_dkd", "hdbt", "hdkd", "impr")
BASE = {name: plain(SMALL, BENCH, 150, name, no_settings) for name in METHODS}
PLANNED = {trial.with_seed(seed).name for trial in BASE.values() for seed in SEEDS}


def compared(plus, minus, effect=None, statement="above 0", part="claim", quantity="all exits"):
    return Comparison(
        f"{plus} − {minus}", [BASE[plus]], [BASE[minus]], quantity, statement, 1, effect, part
    )


def runs(means, noise=0.5, seeds=8, without=()):
    """Method → mean accuracy of all exits; the luck of seeds, and noise that averages out."""
    luck = (0.0, 2.0, -1.0, 0.5, 1.0, -2.0, 3.0, 0.0)
    return {
        run.name: record(run, [mean + luck[seed] + noise * ((place + seed) % 3 - 1)] * 4)
        for place, (name, mean) in enumerate(means.items())
        for seed in range(seeds)
        if (run := BASE[name].with_seed(seed)).name not in without
    }


def evidence(records, seeds=SEEDS):
    return Evidence.of(records, PLANNED, seeds)


MEANS = {"msdnet": 30.0, "dbt": 32.0, "naive_dkd": 30.1, "hdbt": 31.0, "hdkd": 29.0}
