"""A step of Algorithm 1: on the meta device, where a host synchronisation fails, and in numbers."""

from __future__ import annotations

import pytest
import torch
from small_network import small_msdnet

from hdkd_dist.data.normalize import Normalize
from hdkd_dist.method.weights import METHODS
from hdkd_dist.models import build
from hdkd_dist.training.engine import forward_of
from hdkd_dist.training.harmony import start_harmony
from hdkd_dist.training.meter import Meter
from hdkd_dist.training.settings import Settings
from hdkd_dist.training.step import learn_weights, train_network

SETTINGS = {
    "model": {"preset": "msdnet-digits"},
    "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 8},
}


class PlainEngine:
    """The three calls of DeepSpeed's engine in plain torch, for DeepSpeed cannot run on meta."""

    def __init__(self, network, accumulation):
        self.module = network
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        self.accumulation = accumulation
        self.micro_step = 0

    def __call__(self, images, **arguments):
        return self.module(images, **arguments)

    def backward(self, loss):
        (loss / self.accumulation).backward()

    def step(self):
        self.micro_step += 1
        if self.micro_step % self.accumulation == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()


def settings_of(method, **gamma):
    loss = {"temperature": "anneal"}
    return Settings.model_validate({**SETTINGS, "method": method, "gamma": gamma, "loss": loss})


def take_steps(network, settings, device, batches, count=2, equilibrium=False):
    """``count`` steps of γ and θ as the trainer takes them."""
    harmony = start_harmony(settings, network.num_exits, device)
    engine = PlainEngine(network, len(batches))
    normalize = Normalize.of([0.5] * 3, [0.25] * 3, device)
    meter = Meter(network.num_exits, device)
    arguments = {"gradient_equilibrium": equilibrium}
    for step in range(count):
        if harmony.optimizer is not None:
            gradient = learn_weights(
                harmony,
                dict(network.named_parameters()),
                forward_of(network, normalize, **arguments),
                forward_of(network, normalize),
                batches,
                batches,
                step_size=0.1,
                settings=settings.gamma,
                mean=list,
            )
            meter.add_weights_step(step, gradient, drift=gradient.norm() * 0)
        measures = train_network(
            engine, harmony, batches, prepare=normalize, annealing=True, mean=list, **arguments
        )
        meter.add(step, measures, harmony.gamma, images=8)
    return harmony, meter


def stored(count, side, device):
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(256, (8, 3, side, side), generator=generator).byte().to(device),
            torch.randint(5, (8,), generator=generator).to(device),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("preset", ["msdnet-digits", "resnet-digits"])
@pytest.mark.parametrize("method", ["hdkd", "impr"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_whole_step_runs_on_the_meta_device(preset, method, accumulation):
    meta = torch.device("meta")
    network = build(preset, 5).to(meta)
    settings = settings_of(method)
    harmony, _ = take_steps(
        network,
        settings,
        meta,
        stored(accumulation, 16, meta),
        equilibrium=METHODS[method].gradient_equilibrium,
    )
    assert harmony.gamma.device.type == "meta"
    assert harmony.temperature.device.type == "meta"


@pytest.mark.parametrize("constraint", ["none", "nonnegative", "fixed_sum"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_way_of_moving_gamma_runs_on_the_meta_device(constraint, optimizer):
    meta = torch.device("meta")
    settings = settings_of("hdkd", constraint=constraint, optimizer=optimizer)
    take_steps(build("msdnet-digits", 5).to(meta), settings, meta, stored(1, 16, meta), count=1)


def test_meta_device_would_notice_a_host_synchronisation():
    with pytest.raises(RuntimeError):
        float(torch.zeros((), device="meta"))
    with pytest.raises(RuntimeError):
        torch.zeros(3, device="meta") + torch.zeros(3)


def test_running_statistics_move_once_per_micro_batch_of_training():
    network, cpu = small_msdnet().train(), torch.device("cpu")
    take_steps(network, settings_of("hdkd"), cpu, stored(2, 16, cpu), count=3)
    counted = {int(b) for name, b in network.named_buffers() if name.endswith("tracked")}
    assert counted == {6}


def test_step_of_theta_uses_the_gamma_that_was_just_learned():
    """Lookahead: «the loss weights of the current batch»."""
    cpu = torch.device("cpu")
    batches = stored(1, 16, cpu)
    network = small_msdnet().train()
    settings = settings_of("hdkd", lr=0.3)
    harmony, _ = take_steps(network, settings, cpu, batches, count=1)
    assert not torch.allclose(harmony.gamma, harmony.initial, atol=0.1)

    from hdkd_dist.method.objective import loss_vector

    def stepped(gamma):
        other = small_msdnet().train()
        images = Normalize.of([0.5] * 3, [0.25] * 3, cpu)(batches[0][0])
        (gamma @ loss_vector(other(images), batches[0][1], 1.0)).backward()
        torch.optim.SGD(other.parameters(), lr=0.1).step()
        return torch.nn.utils.parameters_to_vector(other.parameters())

    found = torch.nn.utils.parameters_to_vector(network.parameters())
    torch.testing.assert_close(found, stepped(harmony.gamma), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, stepped(harmony.initial), rtol=1e-4, atol=1e-6)
