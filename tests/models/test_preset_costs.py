"""The presets' costs against the reference's, as ``python -m hdkd_dist.models`` prints them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hdkd_dist.models import PRESETS, __main__, presets

ROOT = Path(__file__).parents[2]

# The last exits' multiply-adds in millions.
REFERENCE = {
    "msdnet-cifar-8": [6.86, 14.35, 27.29, 48.45, 81.57, 112.64, 152.92, 192.69],
    "msdnet-cifar-4": [38.04],
    "msdnet-cifar-5": [58.48],
    "msdnet-cifar-6": [89.09],
    "msdnet-imagenet-4": [339.9, 685.5, 1008.2, 1254.5, 1360.5],
    "msdnet-imagenet-6": [2742.1],
    "msdnet-imagenet-7": [3253.8],
}


@pytest.fixture(scope="module")
def costs():
    command = [sys.executable, "-m", "hdkd_dist.models", "--json"]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=120)
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", REFERENCE)
def test_multiply_adds_agree_with_the_reference(costs, name):
    expected = REFERENCE[name]

    assert costs[name]["mmac"][-len(expected) :] == pytest.approx(expected, rel=0.005)


def test_parameters_agree_with_the_reference(costs):
    assert costs["msdnet-cifar-8"]["params"][-1] == 5_310_564


def test_the_small_networks_are_small(costs):
    assert costs["msdnet-cifar-small"]["mmac"][-1] == pytest.approx(11, abs=0.2)
    for name in ("msdnet-digits", "resnet-digits"):
        assert costs[name]["mmac"][-1] < 1.5


def test_every_preset_is_there_and_later_exits_cost_more(costs):
    assert list(costs) == list(PRESETS)
    for cost in costs.values():
        assert len(cost["mmac"]) == len(cost["params"]) >= 3
        for column in cost.values():
            assert column == sorted(set(column))


def test_the_table_shows_the_same_numbers_in_aligned_columns(costs, monkeypatch, capsys):
    small = {name: PRESETS[name] for name in ("msdnet-cifar-small", "resnet-imagenet-4")}
    monkeypatch.setattr(presets, "PRESETS", small)
    __main__.main()
    header, *lines = capsys.readouterr().out.splitlines()

    sides = {"msdnet-cifar-small": "32", "resnet-imagenet-4": "224"}

    assert header.split() == ["preset", "pixels", "exit", "MMAC", "parameters"]
    assert len({len(line) for line in [header, *lines]}) == 1
    assert [line.split() for line in lines] == [
        [name, sides[name], str(k + 1), f"{mmac:.2f}", f"{costs[name]['params'][k]:,}"]
        for name in small
        for k, mmac in enumerate(costs[name]["mmac"])
    ]
