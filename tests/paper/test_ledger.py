"""What is taken as finished."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_up import SMALL, no_settings, record

from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.paper.ledger import Ledger, digest_in
from hdkd_dist.paper.studies import STUDIES
from hdkd_dist.paper.trials import Folders


def test_runs_on_other_data_are_not_mixed(tmp_path):
    row = next(STUDIES["2"].rows(SMALL, no_settings))
    place = Folders(tmp_path / "data", tmp_path / "runs")
    folder = place.data_set(row.trial)
    before = {each.name: replace(each, data="") for each in (record(row.trial, [30.0] * 4),)}
    for seed, elsewhere in enumerate((folder, tmp_path / "other")):
        prepare_digits(elsewhere, seed=seed)
    here, other = digest_in(folder), digest_in(tmp_path / "other")
    assert here != other

    def check(data):
        known = {name: replace(each, data=data) for name, each in before.items()}
        Ledger(SMALL, place, tmp_path / "results", known).check_data(row.trials)

    for data in (here, ""):  # "" is not known
        check(data)
    with pytest.raises(ValueError, match=f"trained on other data than .* \\({other} → {here}\\)"):
        check(other)


def test_data_that_are_not_there_cannot_differ(tmp_path):
    row = next(STUDIES["2"].rows(SMALL, no_settings))
    known = replace(record(row.trial, [30.0] * 4), data="0123")
    place = Folders(tmp_path / "data", tmp_path / "runs")
    Ledger(SMALL, place, tmp_path, {known.name: known}).check_data(row.trials)
    assert digest_in(place.data_set(row.trial)) == ""
