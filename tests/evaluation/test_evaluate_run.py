"""Requests to evaluate.py; the evaluation itself is tried in test_evaluate_export_predict.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hdkd_dist.data.manifest import read_manifest
from hdkd_dist.data.manifest import write as write_manifest
from hdkd_dist.data.preparing.digits import prepare_digits
from hdkd_dist.evaluation.evaluate_run import (
    check_classes,
    check_own_data,
    check_writable,
    is_own_data,
    named_runs,
    short_names,
)


def test_runs_are_named_once_each():
    assert named_runs("a, b") == named_runs(["a", "b"]) == [Path("a"), Path("b")]
    for words in (["a", "a"], "a,,b"):
        with pytest.raises(ValueError, match="--run needs the folders of different runs"):
            named_runs(words)


def test_names_are_short_where_that_tells_runs_apart():
    assert short_names([Path("x/a"), Path("y/b")]) == ["a", "b"]
    assert short_names([Path("x/a"), Path("y/a")]) == ["x/a", "y/a"]


def test_data_of_other_classes_or_other_splits_are_refused(tmp_path):
    prepare_digits(tmp_path / "digits")
    own = read_manifest(tmp_path / "digits")
    check_classes(tmp_path, own, own)
    check_own_data(tmp_path, own, own)
    with pytest.raises(ValueError, match="the first to differ is number 1, '9' instead of '0'"):
        check_classes(tmp_path, own, replace(own, classes=own.classes[::-1]))
    swapped = {**own.splits, "test": own.splits["metaval"]}
    with pytest.raises(ValueError, match="is no longer what"):
        check_own_data(tmp_path, own, replace(own, splits=swapped))


def test_data_are_the_runs_own_by_content_wherever_they_lie(tmp_path):
    prepare_digits(tmp_path / "digits")
    measured, run = read_manifest(tmp_path / "digits"), tmp_path / "run"
    run.mkdir()
    assert is_own_data(run, measured, None)  # an older run has not noted its data
    assert not is_own_data(run, measured, "elsewhere")
    write_manifest(measured, run)
    assert is_own_data(run, replace(measured, folder=tmp_path / "moved"), "moved")
    swapped = {**measured.splits, "test": measured.splits["metaval"]}
    assert not is_own_data(run, replace(measured, splits=swapped), "other")


def test_a_place_that_is_no_folder_cannot_get_results(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable([tmp_path / "new"])
    with pytest.raises(ValueError, match=r"cannot write results to .*file: File exists"):
        check_writable([tmp_path / "file"])
