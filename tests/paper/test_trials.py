"""A run's identity and settings."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import SMALL, no_settings, rows_of

from hdkd_dist.config.settings import GammaSettings
from hdkd_dist.models.presets import PRESETS
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import controls
from hdkd_dist.paper.trials import same_steps, settings_of, trial_digest


def test_a_smaller_imagenet_trains_for_as_many_steps():
    bench = SCALES["paper"].benches["imagenet"]
    rows = {row.block: settings_of(row.trial).schedule for row in rows_of("1", "paper")}
    steps = {
        title: rows[bench.title(size)].epochs * (bench.train_images(size) // 1024)
        for size, title in ((size, bench.title(size)) for size in bench.sizes)
    }
    whole = steps.pop("ImageNet(full)")
    assert whole == 90 * 1202  # (1,281,167 − 50,000) // 1024
    assert all(found == pytest.approx(whole, rel=2e-3) for found in steps.values())
    small = rows["ImageNet(100)"]
    part = [milestone / small.epochs for milestone in small.milestones]
    assert part == pytest.approx([30 / 90, 60 / 90])
    assert small.warmup_epochs / small.epochs == pytest.approx(5 / 90)
    assert same_steps(SCALES["paper"].benches["cifar100"], 150) == {}


def test_a_changed_default_is_a_changed_run_and_a_written_one_is_not(monkeypatch):
    row = rows_of("2", "small")[-1]
    alpha = GammaSettings().alpha
    same, other = (
        replace(row.trial, settings={"hdkd.gamma.alpha": value}) for value in (alpha, 0.1)
    )
    assert trial_digest(same) == trial_digest(row.trial) != trial_digest(other)
    before = trial_digest(same)
    monkeypatch.setitem(PRESETS, "msdnet-cifar-tiny", PRESETS["msdnet-cifar-small"])
    assert trial_digest(same) != before


def test_a_control_of_a_changed_run_is_a_changed_control():
    control = next(row.trial for row in controls(SMALL, no_settings) if row.trial.source)
    changed = replace(control.source, settings={"hdkd.gamma.lr": 0.5})
    assert replace(control, source=changed).name == control.name
    found = replace(control, source=changed).identity
    assert {key for key in found if found[key] != control.identity[key]} == {"source_digest"}


def test_records_stay_valid_when_settings_are_added():
    """If this fails a setting is new: give its neutral value in ``trials._NEUTRAL``.

    If a default has changed, records of earlier runs are void: change the digest here.
    """
    first, *_, last = rows_of("block1", "small")
    assert [trial_digest(row.trial) for row in (first, last)] == ["4e774c361321", "045fac04f00a"]
