"""A command line is read by declared types; whatever is wrong with it is one line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from hdkd_dist import evaluate, export, predict, report, reproduce, train
from hdkd_dist.flags import flags_of, help_page, read_flags
from hdkd_dist.inference import drift
from hdkd_dist.models.__main__ import main as models


def example(
    out: Path,
    names: Sequence[str] = (),
    data: str | None = None,
    epochs: int | None = None,
    rate: float = 0.1,
    check: bool = False,
) -> None:
    """Do something.

    Longer words
    on it.

    Args:
        out: where it goes.
        names: some
            names.
        epochs: how long; default: as
            ever.
    """


def read(*words):
    return read_flags(words, flags_of(example), "example.py")


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--out", "20261126_0930"], {"out": Path("20261126_0930")}),
        (["--out", "1e5"], {"out": Path("1e5")}),
        (["--out=a=b"], {"out": Path("a=b")}),
        (["--out", "[1,2]", "--data", "2024"], {"out": Path("[1,2]"), "data": "2024"}),
        (["--out", "None", "--data", "True"], {"out": Path("None"), "data": "True"}),
        (["--out", "a", "--epochs", "-1"], {"out": Path("a"), "epochs": -1}),
        (["--out", "a", "--rate", "1"], {"out": Path("a"), "rate": 1.0}),
        (["--out", "a", "--check"], {"out": Path("a"), "check": True}),
        (["--check", "--out", "a"], {"out": Path("a"), "check": True}),
        (["--check=False", "--out", "a"], {"out": Path("a"), "check": False}),
        (["--names", "1", "b c", "--out", "a"], {"out": Path("a"), "names": ["1", "b c"]}),
        (["--names=x=[2, 3]", "--out=a", "--names", "y"], {"names": ["x=[2, 3]", "y"]}),
    ],
)
def test_the_declared_type_decides(words, values):
    given = read(*words)
    assert values.items() <= given.items()
    assert all(type(given[name]) is type(value) for name, value in values.items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out"], "--out needs a value"),
        (["--out", "--epochs", "3"], "--out needs a value"),
        (["--out", ""], "--out cannot be used: an empty path"),
        (["--out", "a", "--data", ""], "--data must not be empty"),
        (["--out="], "--out cannot be used: an empty path"),
        (["--out", "a", "--names"], "--names needs a value"),
        (["--out", "a", "--epochs"], "--epochs needs a value"),
        (["--out", "a", "--epochs", "2.0"], "--epochs must be a whole number, not '2.0'"),
        (["--out", "a", "--epochs", "True"], "--epochs must be a whole number, not 'True'"),
        (["--out", "a", "--epochs", "1_0"], "--epochs must be a whole number, not '1_0'"),
        (["--out", "a", "--rate", "nan"], "--rate must be a number, not 'nan'"),
        (["--out", "a", "--rate", "1e400"], "--rate must be a number, not '1e400'"),
        (["--out", "a", "--check", "1"], "--check must be true or false, not '1'"),
        (["--out", "a", "b"], "'b' belongs to no flag"),
        (["a"], "'a' belongs to no flag"),
        (["-o", "a"], "'-o' belongs to no flag"),
        (["--", "a"], "-- is no flag of example.py"),
        (["--out", "a", "--out", "b"], "--out is given twice: a and b"),
        (["--hlep"], "--hlep is no flag of example.py: did you mean --help?"),
        (["--epoch", "3"], "--epoch is no flag of example.py: did you mean --epochs?"),
        (["--output_dir", "a"], "--output_dir is no flag of example.py: did you mean --out?"),
        (["--zzz", "3"], "--zzz is no flag of example.py; --help shows them"),
        ([], "--out is needed: where it goes. example.py --help shows all"),
    ],
)
def test_what_is_wrong_is_named(words, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read(*words)


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--lr", "hdkd.schedule.base_lr or hdkd.gamma.lr"),
        ("--learning-rate", "hdkd.schedule.base_lr or hdkd.gamma.lr"),
        ("--temperature", "hdkd.loss.temperature"),
        ("--alpha", "hdkd.gamma.alpha"),
        ("--batch_size", "train_batch_size"),
        ("--num_epochs", "--epochs"),
        ("--methd", "--method"),
    ],
)
def test_what_people_type_leads_to_the_flag_or_the_setting(flag, meant):
    with pytest.raises(ValueError, match=rf"is no flag of train.py: did you mean {meant}\?"):
        read_flags([flag, "1"], flags_of(train.main), "train.py")


def test_help_has_types_purposes_and_defaults():
    assert help_page(example, "example.py").splitlines() == [
        "usage: example.py --out PATH [flags]",
        "",
        "Do something.",
        "Longer words on it.",
        "",
        "  --out PATH          where it goes (needed)",
        "  --names TEXT …      some names",
        "  --data TEXT",
        "  --epochs N          how long; default: as ever",
        "  --rate X            (default 0.1)",
        "  --check true|false  (default false)",
    ]


ENTRY_POINTS = {
    "train": train.main,
    "evaluate": evaluate.main,
    "export": export.main,
    "predict": predict.main,
    "report": report.main,
    "drift": drift.main,
    "models": models,
    **{f"reproduce {name}": command for name, command in reproduce.COMMANDS.items()},
}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_flag_of_an_entry_point_is_explained(name):
    main = ENTRY_POINTS[name]
    flags = flags_of(main)
    assert list(flags) == list(inspect.signature(main).parameters)
    assert all(flag.purpose for flag in flags.values())
    assert all(len(line) <= 100 for line in help_page(main, name).splitlines())
