"""The examples do what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_loops_are_short():
    for name in ("own_loop", "multi_task"):
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 80


@pytest.mark.parametrize("method", ["hdkd", "msdnet"])
def test_own_loop_learns_digits_at_every_exit(method, capsys):
    accuracies = example("own_loop").train(method, epochs=2)

    assert len(accuracies) == 3
    assert min(accuracies) > 60
    ratios = [float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()]
    assert (ratios == [1.0, 1.0]) == (method == "msdnet"), "γ learns where the method says so"


def test_multi_task_learns_which_losses_serve_the_task():
    multi_task = example("multi_task")
    uniform, fixed = multi_task.train("uniform", seed=0, steps=200)
    learned, weights = multi_task.train("learned", seed=0, steps=200)

    assert fixed.tolist() == [1.0, 1.0, 1.0]
    digit, odd, noise = weights
    assert digit > 1 > max(odd, noise)
    assert learned > uniform - 1


def test_timm_exits(monkeypatch):
    timm_exits = example("timm_exits")
    if importlib.util.find_spec("timm") is None:
        with pytest.raises(ValueError, match=r"this network needs timm .* pip install timm"):
            timm_exits.build(5)
        return
    network = timm_exits.build(5, backbone="resnet18", exits=3)
    assert network.num_exits == 3
    assert [head[-1].in_features for head in network.classifiers] == [128, 256, 512]
