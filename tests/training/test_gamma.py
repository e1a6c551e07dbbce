"""How γ starts in a run."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from hdkd_dist.config.settings import GammaSettings, LossSettings, Settings
from hdkd_dist.method.objective import LossLayout, loss_vector
from hdkd_dist.training.gamma import (
    check_terms,
    configured_losses,
    configured_weights,
    gamma_rate,
    gamma_record,
)

EXITS, STEPS = 3, 20


def start(method, init, seed=0, **loss):
    settings = Settings.model_validate(
        {
            "method": method,
            "model": {"preset": "msdnet-digits"},
            "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 8},
            "loss": loss,
            "gamma": {"init": init},
            "run": {"seed": seed},
        }
    )
    return configured_weights(settings, EXITS, STEPS, torch.device("cpu"))


def test_starts():
    assert start("hdkd", "ds_like").gamma.tolist() == [1, 1, 1, 1, 1, 1]
    assert start("hdkd", "dbt_like").gamma.tolist() == [1, 1, 1, 0, 1, 1]
    same_sum = start("hdkd", "random_same_sum", 1)
    assert float(same_sum.gamma.sum()) == pytest.approx(6)
    torch.testing.assert_close(
        same_sum.gamma / same_sum.gamma[0],
        (drawn := start("hdkd", "random", 1).gamma) / drawn[0],
    )
    assert not torch.equal(start("hdkd", "random", 1).gamma, start("hdkd", "random", 2).gamma)


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("steps", [301, 3_000])
def test_by_default_a_steady_hypergradient_moves_a_weight_by_a_half_in_any_training(steps, every):
    """Whatever its size."""
    section = {"gamma": {"every": every}, "schedule": {"epochs": 1, "base_lr": 1, "base_batch": 8}}
    settings = Settings.model_validate({"model": {"preset": "msdnet-digits"}, **section})
    weights = configured_weights(settings, EXITS, steps, torch.device("cpu"))
    steadily = torch.tensor([-1e-6, -1e-3, -1.0, 1e-3, 0, -1e3])
    for _ in range(0, steps, every):
        weights.step(steadily)
    expected = torch.tensor([1.5, 1.5, 1.5, 0.5, 1, 1.5])
    torch.testing.assert_close(weights.gamma, expected, atol=0.01, rtol=0)


def test_a_rate_that_is_given_is_taken_and_gradient_descent_needs_one():
    assert gamma_rate(GammaSettings(lr=0.3, optimizer="sgd"), 1000) == 0.3
    assert gamma_rate(GammaSettings(lr=0.002), 1000) == 0.002
    assert gamma_rate(GammaSettings(every=4), 2) == 0.5  # a single step
    assert gamma_rate(GammaSettings(every=4), 5) == 0.25
    descent = {"gamma": {"optimizer": "sgd"}, "model": {"preset": "msdnet-digits"}}
    schedule = {"epochs": 1, "base_lr": 1, "base_batch": 8}
    with pytest.raises(ValueError, match=r"gamma\.lr must be given with gamma\.optimizer"):
        Settings.model_validate({**descent, "schedule": schedule})
    Settings.model_validate({**descent, "schedule": schedule, "method": "naive_dkd"})


def test_teachers_of_a_configuration_replace_those_of_the_method():
    assert start("hdkd", "ds_like", teachers="next").exists.tolist() == [1, 1, 1, 1, 0, 1]
    matrix = [[0, 0, 0], [0.5, 0, 0], [0, 2, 0]]
    weights = start("naive_dkd", "ds_like", teachers=matrix, kd_weight=3)
    assert weights.gamma.tolist() == [1, 1, 1, 1.5, 0, 6]
    assert not weights.learns


@pytest.mark.parametrize("init", ["random", "dbt_like", "fixed:somewhere"])
@pytest.mark.parametrize("method", ["msdnet", "naive_dkd"])
def test_fixed_methods_are_defined_by_their_weights(method, init):
    with pytest.raises(ValueError, match=f"{method} has fixed weights, which define it"):
        start(method, init)


def test_fixed_weights_of_a_run(tmp_path):
    kd = [[0, 0, 0], [0.25, 0, 0], [0, 0.75, 0]]
    (tmp_path / "results.json").write_text(json.dumps({"gamma": {"ce": [1, 2, 3], "kd": kd}}))
    weights = start("hdkd", f"fixed:{tmp_path}")
    assert weights.gamma.tolist() == [1, 2, 3, 0.25, 0, 0.75]
    assert weights.optimizer is None
    assert start("hdkd", f"fixed:{tmp_path / 'results.json'}").gamma.tolist()[2] == 3
    with pytest.raises(ValueError, match="has weights that hdbt has not"):
        start("hdbt", f"fixed:{tmp_path}")


@pytest.mark.parametrize("content", ["{}", "{", '{"gamma": {"ce": [1], "kd": [[0]]}}'])
def test_unusable_runs_are_refused(tmp_path, content):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"hdkd\.gamma\.init: .*results\.json"):
        start("hdkd", f"fixed:{file}")


LOSSES = """
import torch

def confidence(logits, labels, temperature):
    return -torch.distributions.Categorical(logits=logits).entropy().mean()

def per_image(logits, labels, temperature):
    return logits.mean(dim=(0, 2))

def constant(logits, labels, temperature):
    return torch.tensor(1.0)

def without_graph(logits, labels, temperature):
    with torch.no_grad():
        teacher = logits[-1].softmax(dim=-1)
    return -(teacher * logits.log_softmax(dim=-1)).sum(dim=-1).mean()

def reverse_only(logits, labels, temperature):
    exits = logits.flatten(0, 1)
    return torch.nn.functional.multi_margin_loss(exits, labels.repeat(len(logits)))

def broken(logits, labels):
    return logits.mean()
"""


@pytest.fixture
def my_losses(tmp_path, monkeypatch):
    """A module of the user's own in the working directory."""
    (tmp_path / "my_losses.py").write_text(LOSSES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_losses", None)


@pytest.mark.usefixtures("my_losses")
def test_a_loss_named_in_the_configuration_is_one_entry_more():
    terms = {"my_losses:confidence": 0.25}
    for init in ("ds_like", "dbt_like", "random", "random_same_sum"):
        weights = start("hdkd", init, terms=terms)
        assert weights.gamma[-1] == 0.25
        assert weights.exists[-1] == 1
        assert torch.equal(weights.gamma[:-1], start("hdkd", init).gamma)
    loss = LossSettings(terms=terms)
    logits, labels = torch.randn(EXITS, 4, 5), torch.arange(4)
    value = configured_losses(loss)(logits, labels, torch.tensor(3.0))
    probabilities = logits.softmax(dim=-1)

    assert loss.term_names == ("confidence",)
    torch.testing.assert_close(value[:-1], loss_vector(logits, labels, 3.0))
    entropy = -(probabilities * probabilities.log()).sum(dim=-1).mean()
    torch.testing.assert_close(value[-1], -entropy)


def test_a_run_keeps_the_weights_of_further_losses_by_name(my_losses):
    terms = {"my_losses:confidence": 0.25}
    weights = start("hdkd", "ds_like", terms=terms)
    record = gamma_record(weights, LossLayout(EXITS, ("confidence",)), [])
    (my_losses / "results.json").write_text(json.dumps({"gamma": record}))

    assert record["terms"] == record["initial"]["terms"] == {"confidence": 0.25}
    assert record["rate"] == pytest.approx(0.5 / (STEPS / 2))
    again = start("hdkd", f"fixed:{my_losses}", terms={"my_losses:confidence": 9})
    assert torch.equal(again.gamma, weights.gamma)
    with pytest.raises(ValueError, match=r"further losses \['confidence'\], but .* names \[\]"):
        start("hdkd", f"fixed:{my_losses}")


@pytest.mark.usefixtures("my_losses")
@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("my_losses:per_image", "must give a tensor without dimensions that depends on"),
        ("my_losses:constant", "must give a tensor without dimensions that depends on"),
        ("my_losses:without_graph", r"another derivative in forward mode: .* detach\(\)"),
        ("my_losses:reverse_only", "fails on logits .*NotImplementedError"),
        ("my_losses:broken", "fails on logits .*TypeError"),
        ("my_losses:confidense", "unknown callable of my_losses.*did you mean confidence"),
        ("my_lossses:confidence", "the loss my_lossses:confidence: there is no module"),
    ],
)
def test_what_is_no_loss_is_refused_in_one_line(term, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_terms(LossSettings(terms={term: 1.0}), EXITS, 5)
    assert "\n" not in str(caught.value)
