"""Say what is to be run, by which commands, at which cost, and what that will decide."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hdkd_dist.paper.costs import gpu_precision, tmac_per_second, work_of
from hdkd_dist.paper.execution import EVALUATE, TRAIN
from hdkd_dist.paper.judging.claims import claims
from hdkd_dist.paper.judging.comparisons import METRIC, Claim, Evidence
from hdkd_dist.paper.judging.power import power_lines
from hdkd_dist.paper.ledger import Ledger
from hdkd_dist.paper.queue import in_order_of_seeds, study_rows, validation_of
from hdkd_dist.paper.scales import Setting
from hdkd_dist.paper.studies import Choose
from hdkd_dist.paper.trials import Folders, Trial, evaluate_words, train_words
from hdkd_dist.paper.tuning import STAGES, chosen_or_default, planned_stage


@dataclass(frozen=True)
class Device:
    """Describe what runs are estimated for."""

    title: str
    tmac_per_second: Mapping[str, float]  # 10¹² multiply-adds, by precision: see PEAK_TMAC


def settings_or_default(ledger: Ledger) -> Choose:
    """Return the settings of a method, those of the configuration where nothing is chosen yet."""

    def choose(method: str) -> Setting:
        return chosen_or_default(ledger.scale, method, validation_of(ledger))

    return choose


def planned(name: str, ledger: Ledger) -> list[Trial]:
    """Return the runs of a study; what is not chosen yet may still change their settings."""
    if name in STAGES:
        return planned_stage(name, ledger.scale, validation_of(ledger))
    return in_order_of_seeds(name, study_rows(name, ledger.scale, settings_or_default(ledger)))


def commands(trial: Trial, place: Folders) -> Iterator[str]:
    """Write the run as one would type it."""
    taken = []
    if trial.source:
        what = "the size of γ" if "sum" in str(trial.takes) else "the final γ"
        taken = [f"# and {what} of {trial.source.name}"]
    train = ["python", os.path.relpath(TRAIN), *train_words(trial, place), "--resume", "auto"]
    yield " ".join([shlex.join(train), *taken])
    if trial.test:
        yield shlex.join(["python", os.path.relpath(EVALUATE), *evaluate_words(trial, place)])


def plan_lines(
    names: Sequence[str], ledger: Ledger, device: Device, with_commands: bool
) -> Iterator[str]:
    """Write the plan, line by line."""
    counted: set[str] = set()
    everything = missing = 0.0
    for name in names:
        trials = planned(name, ledger)
        own = [trial for trial in trials if trial.name not in counted]
        counted |= {trial.name for trial in own}
        hours = {trial.name: hours_of(trial, device) for trial in own}
        left = sum(hours[trial.name] for trial in own if not ledger.has(trial))
        everything, missing = everything + sum(hours.values()), missing + left
        yield (
            f"{name}: {len(trials)} runs, {len(trials) - len(own)} of them in the studies above; "
            f"{sum(hours.values()):.4g} hours, {left:.4g} still to do"
        )
        for trial in own:
            state = "finished" if ledger.has(trial) else f"{hours[trial.name]:.3g} h"
            yield f"  {trial.name}  [{state}]"
            if with_commands:
                yield from (f"    {line}" for line in commands(trial, ledger.place))
    yield (
        f"together: {len(counted)} runs, {everything:.4g} hours of {device.title}, "
        f"{missing:.4g} still to do"
    )


def seeds_of(trials: Iterable[Trial]) -> list[int]:
    """Return the seeds with which something is planned, rising."""
    return sorted({trial.seed for trial in trials})


def power_of(names: Sequence[str], ledger: Ledger) -> Iterator[str]:
    """Say what the studies will be able to decide, each comparison in the study that completes it.

    Raises:
        ValueError: if a study could decide nothing.
    """
    scale, choose = ledger.scale, settings_or_default(ledger)
    trials = {trial.name: trial for name in scale.studies for trial in planned(name, ledger)}
    evidence = Evidence.of(ledger.records, trials, seeds_of(trials.values()))
    stated = list(claims(scale, choose))
    there: set[str] = set()
    for name in scale.studies:
        before, there = there, there | {trial.name for trial in planned(name, ledger)}
        own: dict[int, list[Claim]] = {}
        for claim in stated:
            for each in claim.comparisons:
                runs = set(each.names(0))
                if runs <= there and not runs <= before:
                    one = replace(claim, comparisons=[each])
                    own.setdefault(len(evidence.wanted(each)), []).append(one)
        if name in names:
            for seeds, concerned in own.items():
                yield from (
                    f"{name}: {line}"
                    for line in power_lines(concerned, evidence.noise[METRIC], seeds)
                )


def hours_of(trial: Trial, device: Device) -> float:
    """Estimate the hours that a run takes on a device."""
    return work_of(trial).tmac / device.tmac_per_second[gpu_precision(trial)] / 3600


def check_lines(ledger: Ledger, trials: Sequence[Trial]) -> Iterator[str]:
    """Say how well counted multiply-adds predict the speed of the runs that are finished."""
    by_name = {trial.name: trial for trial in trials}
    found = tmac_per_second(ledger.records, by_name)
    if found is None:
        return
    kinds: dict[str, list[float]] = {}
    for name, record in ledger.records.items():
        if rate := tmac_per_second({name: record}, by_name):
            kinds.setdefault(by_name[name].method, []).append(rate / found)
    yield f"finished runs did {found * 1000:.3g} G multiply-adds per second and core (median)"
    for method, rates in sorted(kinds.items()):
        mean = sum(rates) / len(rates)
        yield f"  {method}: {mean:.2f} times that ({len(rates)} runs)"
