"""The name that is meant, for a typo or a habit."""

from __future__ import annotations

import pytest

from hdkd_dist import evaluate, predict, train
from hdkd_dist.config.deepspeed import KEYS
from hdkd_dist.config.load import all_settings
from hdkd_dist.flags import flags_of
from hdkd_dist.spelling import HABITS, SETTINGS, did_you_mean

ENTRY_POINTS = (train.main, evaluate.main, predict.main)
KNOWN = ["gamma", "SGD", "schedule"]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("gama", ": did you mean gamma?"),
        ("sgd", ": did you mean SGD?"),  # whatever the case
        ("scedule", ": did you mean schedule?"),
        ("entropy", ""),
        ("hdkd.gamma.learning_rate", ""),
    ],
)
def test_only_a_near_name_is_offered(word, hint):
    assert did_you_mean(word, KNOWN) == hint


def test_the_least_similarity_can_be_chosen():
    assert did_you_mean("gama", KNOWN, similarity=0.95) == ""
    assert did_you_mean("zzz", KNOWN, similarity=0) != ""


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("hdkd.gamma.learning_rate", ": did you mean hdkd.gamma.lr?"),  # in the same section
        ("hdkd.learning_rate", ": did you mean hdkd.schedule.base_lr or hdkd.gamma.lr?"),
        ("hdkd.T", ": did you mean hdkd.loss.temperature?"),
        ("hdkd.schedule.temperature", ": did you mean hdkd.loss.temperature?"),
        ("hdkd.schedule.type", ": did you mean hdkd.schedule.kind?"),
        ("hdkd.gamma.entropy", ""),
        ("hdkd.batch_size", ": did you mean train_batch_size?"),
    ],
)
def test_settings_are_found_by_their_last_name_and_by_habit(word, hint):
    section = word.rpartition(".")[0]
    beside = [name for name in all_settings() if name.rpartition(".")[0] == section]
    assert (did_you_mean(word, beside) or did_you_mean(word, all_settings())) == hint


def test_all_that_is_proposed_exists():
    flags = {f"--{name}" for main in ENTRY_POINTS for name in flags_of(main)} | {"--source"}
    configured = set(all_settings()) | set(KEYS)
    for name in {*SETTINGS, *(name for names in HABITS.values() for name in names)}:
        assert name in flags or name in configured or name.partition(".")[0] in KEYS, name
