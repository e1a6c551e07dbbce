"""Which runs a study has, in which order, and how parts share them."""

from __future__ import annotations

from collections import Counter

import pytest
from made_up import SMALL, rows_of

from hdkd_dist.paper.queue import in_order_of_seeds, part_of, studies_named, unique
from hdkd_dist.paper.scales import SCALES
from hdkd_dist.paper.studies import STUDIES
from hdkd_dist.paper.tuning import STAGES


def test_what_a_run_builds_on_comes_first_and_has_its_seed():
    for study in ("controls", "3"):
        trials = in_order_of_seeds(study, rows_of(study, "small"))
        place = {trial.name: number for number, trial in enumerate(trials)}
        built = [trial for trial in trials if trial.source]
        assert built
        for trial in built:
            assert trial.source.seed == trial.seed
            assert place[trial.source.name] < place[trial.name]


def test_sizes_come_one_after_the_other_with_paired_seeds():
    of_paper = in_order_of_seeds("2", rows_of("2", "paper"))
    assert [trial.size for trial in of_paper] == [150] * 21 + [250] * 21 + [350] * 21 + [500] * 21
    assert [trial.seed for trial in of_paper[:21]] == [0] * 7 + [1] * 7 + [2] * 7


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_share_the_work_and_keep_sources(parts):
    trials = unique(in_order_of_seeds("controls", rows_of("controls", "small")))
    split = [part_of(trials, (index, parts)) for index in range(parts)]
    assert Counter(name for part in split for name in part) == dict.fromkeys(
        (trial.name for trial in trials), 1
    )
    for part in split:
        assert all(t.source.name in part for t in trials if t.name in part and t.source)


def test_studies_are_named_as_on_the_command_line():
    small, paper = SMALL, SCALES["paper"]
    assert studies_named("all", small) == small.studies
    assert studies_named("2", paper) == ("2",)
    assert studies_named("stage0,block1", small) == ("stage0", "block1")
    assert studies_named("1,figure2", paper) == ("1", "figure2")
    with pytest.raises(ValueError, match=r"must be among stage0, .* small, or all, not '2'"):
        studies_named("2", small)
    for scale in SCALES.values():
        assert {*scale.studies} <= {*STAGES, *STUDIES}
