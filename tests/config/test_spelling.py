"""The nearest known name for a typo."""

from __future__ import annotations

import pytest

from hdkd_dist.config.spelling import did_you_mean

KNOWN = ["gamma", "SGD", "schedule"]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("gama", ": did you mean gamma?"),
        ("sgd", ": did you mean SGD?"),  # whatever the case
        ("scedule", ": did you mean schedule?"),
        ("entropy", ""),
    ],
)
def test_only_a_near_name_is_offered(word, hint):
    assert did_you_mean(word, KNOWN) == hint


def test_the_least_similarity_can_be_chosen():
    assert did_you_mean("gama", KNOWN, similarity=0.95) == ""
    assert did_you_mean("zzz", KNOWN, similarity=0) != ""
