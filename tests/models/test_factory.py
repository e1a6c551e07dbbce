"""Networks from outside the package: found, called, checked, refused in one line."""

import sys

import pytest
import torch
from torch import nn

from hdkd_dist.models import MultiExitNetwork, Staged, build, exit_costs, register, spec_of, staged
from hdkd_dist.models.factory import import_factory
from hdkd_dist.models.network import check_exits
from hdkd_dist.models.presets import PRESETS, build_from

NETWORK = """
import torch
from torch import nn

class Two(nn.Module):
    num_exits = 2

    def __init__(self, num_classes, width):
        super().__init__()
        self.trunk = nn.Linear(3 * 64, width)
        self.heads = nn.ModuleList(nn.Linear(width, num_classes) for _ in range(2))

    def forward(self, images):
        features = self.trunk(images.flatten(1)).relu()
        return torch.stack([head(features) for head in self.heads])

def build(num_classes, width=4):
    return Two(num_classes, width)

def no_exits(num_classes):
    return nn.Linear(3, num_classes)

def a_list(num_classes):
    network = Two(num_classes, 4)
    network.forward = lambda images: [torch.zeros(len(images), num_classes)] * 2
    return network

def wrong_classes(num_classes):
    return Two(num_classes + 1, 4)

def broken(num_classes):
    return {}["nothing"]
"""


@pytest.fixture
def working_directory(tmp_path, monkeypatch):
    """A folder with a module of the user's own, which no import path names."""
    (tmp_path / "my_networks.py").write_text(NETWORK)
    (tmp_path / "half.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_networks", None)


def section(factory, **more):
    return {"factory": factory, "input_size": 8, **more}


@pytest.mark.usefixtures("working_directory")
def test_a_file_in_the_working_directory_gives_a_network():
    spec = spec_of(section("my_networks:build", kwargs={"width": 7}))
    network = build_from(spec, 5)

    assert spec.input_size == 8
    assert network.trunk.out_features == 7
    assert network(torch.zeros(3, 3, 8, 8)).shape == (2, 3, 5)


REFUSED = {
    "no module": (section("my_network:build"), "there is no module my_network in .* PYTHONPATH"),
    "half a module": (section("half:build"), "cannot be imported: .*a_package_that_is_not_there"),
    "no colon": (section("my_networks.build"), 'must read "package.module:callable"'),
    "misspelt": (
        section("my_networks:bild"),
        "unknown callable of my_networks 'bild': did you mean build",
    ),
    "no size": ({"factory": "my_networks:build"}, 'needs "input_size"'),
    "both": (section("my_networks:build", preset="msdnet-digits"), "give either"),
    "neither": ({}, "give either"),
    "overrides": (section("my_networks:build", overrides={"a": 1}), 'set "kwargs"'),
    "kwargs of a preset": ({"preset": "msdnet-digits", "kwargs": {"a": 1}}, 'set "overrides"'),
    "classes": (section("my_networks:build", kwargs={"num_classes": 3}), "has its classes"),
    "other arguments": (section("my_networks:build", kwargs={"depth": 3}), "fails: TypeError"),
    "own error": (section("my_networks:broken"), "fails: KeyError: 'nothing'"),
    "no exits": (section("my_networks:no_exits"), "with num_exits, not Linear"),
    "a list": (section("my_networks:a_list"), r"here \[2, 2, 5\], not list: stack"),
    "other classes": (section("my_networks:wrong_classes"), r"here \[2, 2, 5\], not \[2, 2, 6\]"),
    "other size": (
        {**section("my_networks:build"), "input_size": 9},
        r"cannot run on images \[2, 3, 9, 9\]: RuntimeError",
    ),
}


@pytest.mark.usefixtures("working_directory")
@pytest.mark.parametrize(("asked", "message"), REFUSED.values(), ids=REFUSED)
def test_what_gives_no_network_is_refused_in_one_line(asked, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_from(spec_of(asked), 5)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("working_directory")
def test_a_registered_network_stands_beside_the_presets(monkeypatch):
    monkeypatch.setattr("hdkd_dist.models.presets.PRESETS", dict(PRESETS))
    factory = import_factory("my_networks:build")
    register("two", factory, input_size=8)

    assert build("two", 6, width=5).trunk.out_features == 5
    assert spec_of({"preset": "two", "overrides": {"width": 5}}).input_size == 8
    with pytest.raises(ValueError, match="did you mean two"):
        build("tow")
    with pytest.raises(ValueError, match="there is a preset 'two' already"):
        register("two", factory, input_size=8)


@pytest.mark.usefixtures("working_directory")
def test_a_network_without_stages_gives_the_same_answers_stage_by_stage():
    whole = build_from(spec_of(section("my_networks:build")), 5).eval()
    images = torch.randn(6, 3, 8, 8)
    network, state = staged(whole), [images]

    assert not isinstance(whole, Staged)
    assert not network.training
    for k in range(2):
        state, logits = network.run_stage(k, [tensor[:4] for tensor in state])
        torch.testing.assert_close(logits, whole(images)[k][:4])
    costs = exit_costs(whole, 8)
    assert costs.mmac == [(192 * 4 + 4 * 2 * 5 + 4) / 1e6] * 2, "all exits cost the whole"
    assert costs.params == [193 * 4 + 2 * 25] * 2


class Stages(nn.Module):
    """Two exits, stage by stage."""

    num_exits = 2

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.heads = nn.ModuleList(nn.Linear(12, 5) for _ in range(2))

    def run_stage(self, k, state):
        features = state[0].flatten(1)
        if self.fault == "other features":
            features = features + k
        if self.fault == "mixes images":
            features = features - features.mean(dim=0)
        return state, self.heads[k](features)

    def forward(self, images):
        features = images.flatten(1)
        if self.fault == "mixes images":
            features = features - features.mean(dim=0)
        return torch.stack([head(features) for head in self.heads])


@pytest.mark.parametrize("fault", ["other features", "mixes images"])
def test_stages_that_compute_something_else_are_refused(fault):
    check_exits(Stages(None), 2, 5)
    with pytest.raises(ValueError, match="run_stage gives other logits than its forward"):
        check_exits(Stages(fault), 2, 5)


def test_a_network_that_has_stages_is_left_as_it_is():
    network = build("vit-digits")

    assert isinstance(network, MultiExitNetwork)
    assert staged(network) is network


def test_checking_changes_nothing():
    network = build("msdnet-digits", 5).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)

    check_exits(network, 16, 5)

    assert torch.equal(torch.rand(1), expected)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class OnCpu(nn.Module):
    """Makes a tensor of its own, which the meta device cannot be mixed with."""

    num_exits = 1

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 5)

    def forward(self, images):
        noise = torch.zeros(12, device="cpu")
        return torch.fft.rfft(self.layer(images.flatten(1) + noise)).real[None]


def test_a_network_that_cannot_run_on_the_meta_device_is_counted_all_the_same():
    costs = exit_costs(OnCpu(), 2)

    assert costs.mmac == [12 * 5 / 1e6]
    assert costs.uncounted == ("aten::_fft_r2c",)
