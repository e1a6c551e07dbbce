"""The network of a finished run, from its folder."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from hdkd_dist.models import build
from hdkd_dist.runs.folder import CONFIG, WEIGHTS
from hdkd_dist.runs.network import load_network, read_run, trained_on

HDKD = {"model": {"preset": "msdnet-digits", "overrides": {}}, "data": {"path": "digits"}}


@pytest.fixture
def run(tmp_path):
    (tmp_path / CONFIG).write_text(json.dumps({"hdkd": HDKD}))
    (tmp_path / WEIGHTS).parent.mkdir(parents=True)
    return tmp_path


def test_the_weights_come_back_to_the_bit(run):
    torch.manual_seed(0)
    network = build("msdnet-digits", 10).eval()
    save_file(network.state_dict(), run / WEIGHTS)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_network(run, read_run(run), 10)(images), network(images))
    with pytest.raises(ValueError, match="does not hold the weights of msdnet-digits with 11"):
        load_network(run, read_run(run), 11)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(run, number):
    state = build("msdnet-digits", 10).state_dict()
    name = next(iter(state))
    state[name].view(-1)[0] = number
    save_file(state, run / WEIGHTS)
    with pytest.raises(ValueError, match=rf"numbers that are not finite \({name}\): train again"):
        load_network(run, read_run(run), 10)


def test_a_pipe_is_no_file_of_weights(run):
    os.mkfifo(run / WEIGHTS)
    with pytest.raises(ValueError, match="the run is not finished"):
        load_network(run, read_run(run), 10)


def test_what_is_not_there_is_named(run):
    with pytest.raises(ValueError, match="the run is not finished"):
        load_network(run, read_run(run), 10)
    assert trained_on(run) is None
    (run / CONFIG).write_text('{"hdkd": {"model": 3}}')
    with pytest.raises(ValueError, match="is not the folder of a run"):
        read_run(run)
