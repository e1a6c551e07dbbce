"""The network of a finished run, from its folder."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from hdkd_dist.data.manifest import sha256_of
from hdkd_dist.models import build
from hdkd_dist.runs.folder import CONFIG, WEIGHTS
from hdkd_dist.runs.network import load_network, read_run, read_weights, trained_on
from hdkd_dist.runs.results import update_results

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


@pytest.mark.parametrize("read", [lambda run: load_network(run, read_run(run), 10), read_weights])
def test_weights_that_have_changed_since_training_are_refused(run, read):
    save_file(build("msdnet-digits", 10).state_dict(), run / WEIGHTS)
    update_results(run, {"weights": {"sha256": sha256_of(run / WEIGHTS)}})
    read(run)
    content = bytearray((run / WEIGHTS).read_bytes())
    content[-1] ^= 1  # a bit of a number, which stays finite
    (run / WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match=r"is not what the run has written .*: copy the run again"):
        read(run)
    (run / "results.json").unlink()  # as of a version that did not note it
    read(run)


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
