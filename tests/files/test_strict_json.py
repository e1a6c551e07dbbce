"""One reader of JSON for whatever a stranger may have put where a file should be."""

from __future__ import annotations

import json
import os
import re
import socket

import pytest

from hdkd_dist.config.load import load_config
from hdkd_dist.data.manifest import read_alone
from hdkd_dist.files.strict_json import (
    MAX_DEPTH,
    open_regular,
    parse_json,
    read_json,
    read_json_object,
    to_json,
)
from hdkd_dist.inference.exported import load_exported
from hdkd_dist.paper.ledger import read_done
from hdkd_dist.reporting.structure import read_object
from hdkd_dist.runs.network import read_run
from hdkd_dist.runs.results import read_results
from hdkd_dist.training.checkpointing.files import read_checkpoint
from hdkd_dist.training.gamma import learned_weights


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[" * 100_000, "nested deeper than 64 levels"),
        ('{"a":' * 100_000, "nested deeper than 64 levels"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper than 64 levels"),
        ('{"a": {"b": [0, NaN]}}', "a.b.1 is nan, which is no number"),
        ('{"a": -Infinity}', "a is -inf, which is no number"),
        ('{"a": 1e400}', "a is inf, which is no number"),
        ("NaN", "it is nan, which is no number"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is there twice"),
        (b"\xff\xfe{}", "it is not UTF-8 (byte 0)"),
        (b'{"a": "\xc3("}', "it is not UTF-8 (byte 7)"),
        ("", "it is not JSON"),
        ('{"a": 1', "it is not JSON"),
        ("{'a': 1}", "it is not JSON"),
        ("1" * 5000, "4300 digits"),
    ],
)
def test_what_is_no_json_is_named(text, fault):
    with pytest.raises(ValueError, match=re.escape(fault)) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


def test_what_python_would_write_is_read_back():
    value = {"a": [1, -2.5e-300, True, None, "é\ud800"], "b": {}, "c": [[]], "": 0}
    assert parse_json(to_json(value)) == value
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_nothing_that_is_no_number_is_written(number):
    with pytest.raises(ValueError, match=r"exits\.0\.top1 is .*, which is no number"):
        to_json({"exits": [{"top1": number}]})


def test_only_regular_files_of_a_modest_size_are_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[1, 2]")
    (tmp_path / "link").symlink_to(file)
    assert read_json(file) == read_json(tmp_path / "link") == [1, 2]
    with pytest.raises(ValueError, match="it has more than 5 bytes"):
        read_json(file, limit=5)
    with pytest.raises(ValueError, match="it holds no JSON object"):
        read_json_object(file)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
    for name in (tmp_path / "pipe", tmp_path / "socket", tmp_path, "/dev/zero", "/dev/null"):
        with pytest.raises(OSError, match=r"no regular file|No such device"):
            open_regular(name)


def damage_with_text(text):
    return lambda file: file.write_bytes(text)


DAMAGES = {
    "nested": damage_with_text(b"[" * 100_000),
    "twice": damage_with_text(b'{"format": 1, "format": 1}'),
    "not finite": damage_with_text(b'{"format": NaN}'),
    "not UTF-8": damage_with_text(b'{"\xff": 1}'),
    "empty": damage_with_text(b""),
    "a list": damage_with_text(b"[[1]]"),
    "a number": damage_with_text(b"3"),
    "pipe": os.mkfifo,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "folder": lambda file: file.mkdir(),
}


def noted_fault(folder):
    value, note = read_object(folder / "results.json", lambda found: None)
    if value is None and note is not None:
        raise ValueError(note)
    if not isinstance(value, dict):
        raise ValueError(f"{folder}/results.json holds {value}")


READERS = {
    "config.json": read_run,
    "results.json": read_results,
    "given.json": lambda folder: load_config(folder / "given.json", {}, 1),
    "manifest.json": read_alone,
    "model.json": load_exported,
    "checkpoint.json": read_checkpoint,
    "trial.json": read_done,
    "gamma.json": lambda folder: learned_weights(folder / "gamma.json", 3),
    "report of results.json": noted_fault,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_it_in_one_line_that_names_the_file(tmp_path, reader, damage):
    name = reader.rpartition(" ")[2]
    DAMAGES[damage](tmp_path / name)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match=f"{name}|{tmp_path}") as caught:
        READERS[reader](tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert sorted(os.listdir(tmp_path)) == before


def test_strict_json_is_json(tmp_path):
    """What is written here, any other reader takes."""
    assert json.loads(to_json({"a": (1, 2)}, indent=1, sort_keys=True)) == {"a": [1, 2]}
