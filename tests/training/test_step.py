"""A step of Algorithm 1: on the meta device, where a host synchronisation fails, and in numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_network import small_msdnet

from hdkd_dist.data.normalize import Normalize
from hdkd_dist.method.meta_objective import meta_objective
from hdkd_dist.method.objective import cross_entropies, loss_vector
from hdkd_dist.method.weights import METHODS
from hdkd_dist.models import build
from hdkd_dist.training.functional import forward_of
from hdkd_dist.training.harmony import start_harmony
from hdkd_dist.training.meter import Meter
from hdkd_dist.training.settings import Settings
from hdkd_dist.training.step import LOOK_AHEADS, Learner, gradient_share, train_network

RATE = 0.1
SETTINGS = {
    "model": {"preset": "msdnet-digits"},
    "schedule": {"epochs": 1, "base_lr": 0.1, "base_batch": 8},
}


class PlainEngine:
    """The three calls of DeepSpeed's engine in plain torch, for DeepSpeed cannot run on meta."""

    def __init__(self, network, accumulation, **sgd):
        self.module = network
        self.optimizer = torch.optim.SGD(network.parameters(), lr=RATE, **sgd)
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


def learner_of(network, settings, device, accumulation, equilibrium=False, **sgd):
    normalize = Normalize.of([0.5] * 3, [0.25] * 3, device)
    return Learner(
        engine=PlainEngine(network, accumulation, **sgd),
        harmony=start_harmony(settings, network.num_exits, device),
        parameters=dict(network.named_parameters()),
        forward=forward_of(network, normalize),
        train_forward=forward_of(network, normalize, gradient_equilibrium=equilibrium),
        prepare=normalize,
        gradient_equilibrium=equilibrium,
        gradient_share=gradient_share({"params": sgd}),
        annealing=settings.loss.temperature == "anneal",
        settings=settings.gamma,
        mean=list,
    )


def take_steps(network, settings, device, batches, count=2, equilibrium=False):
    """``count`` steps of γ and θ as the trainer takes them."""
    learner = learner_of(network, settings, device, len(batches), equilibrium, momentum=0.9)
    meter = Meter(network.num_exits, device)
    for step in range(count):
        if learner.harmony.optimizer is not None:
            harmonised_step = LOOK_AHEADS[settings.gamma.lookahead]
            measures, gradient = harmonised_step(learner, batches, batches, RATE)
            meter.add_weights_step(step, gradient, drift=gradient.norm() * 0)
        else:
            measures = train_network(learner, batches)
        meter.add(step, measures, learner.harmony.gamma, images=8)
    return learner.harmony, meter


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
@pytest.mark.parametrize(
    ("method", "kind"), [("hdkd", "lookahead"), ("hdkd", "online"), ("impr", "lookahead")]
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_whole_step_runs_on_the_meta_device(preset, method, kind, accumulation):
    meta = torch.device("meta")
    network = build(preset, 5).to(meta)
    settings = settings_of(method, lookahead=kind)
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

    def stepped(gamma):
        other = small_msdnet().train()
        images = Normalize.of([0.5] * 3, [0.25] * 3, cpu)(batches[0][0])
        (gamma @ loss_vector(other(images), batches[0][1], 1.0)).backward()
        torch.optim.SGD(other.parameters(), lr=0.1).step()
        return torch.nn.utils.parameters_to_vector(other.parameters())

    found = torch.nn.utils.parameters_to_vector(network.parameters())
    torch.testing.assert_close(found, stepped(harmony.gamma), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, stepped(harmony.initial), rtol=1e-4, atol=1e-6)


def real_step(forward, gamma, before, train_batch, metaval_batch, **sgd):
    """θ' and its CE_k, differentiable in γ: the optimiser's step written out."""
    theta, buffers = before
    gamma = gamma.clone().requires_grad_()
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    losses = sum(loss_vector(forward(leaves, x), y, 3.0) for x, y in train_batch)
    gradient = torch.autograd.grad(
        gamma @ losses / len(train_batch), list(leaves.values()), create_graph=True
    )
    ahead = {}
    for (name, value), g in zip(leaves.items(), gradient, strict=True):
        g = g + sgd["weight_decay"] * value
        momentum = sgd["momentum"] * buffers[name] + g
        step = g + sgd["momentum"] * momentum if sgd["nesterov"] else momentum
        ahead[name] = value - RATE * step
    ce = sum(cross_entropies(forward(ahead, x), y) for x, y in metaval_batch) / len(metaval_batch)
    return ahead, ce, gamma


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_online_differentiates_the_real_optimiser_step(nesterov, accumulation):
    """Against double backward through that step, in the midst of a training, in float64."""
    cpu, sgd = torch.device("cpu"), {"momentum": 0.9, "weight_decay": 1e-2, "nesterov": nesterov}
    settings = Settings.model_validate(
        {**SETTINGS, "method": "hdkd", "gamma": {"lookahead": "online", "lr": 1e-9}}
    )
    network = small_msdnet().double().train()
    batches = stored(accumulation, 16, cpu)
    metaval_batch = [(255 - images, labels) for images, labels in batches]
    learner = learner_of(network, settings, cpu, accumulation, **sgd)
    learner.harmony.gamma = learner.harmony.gamma.double()
    learner = replace(learner, prepare=lambda x: (x.double() - 127.5) / 63.75)
    learner = replace(
        learner,
        forward=forward_of(network, learner.prepare),
        train_forward=forward_of(network, learner.prepare),
    )
    learner.harmony.optimizer = torch.optim.SGD([learner.harmony.gamma], lr=1e-12)
    for _ in range(2):
        train_network(learner, batches)
    state = learner.engine.optimizer.state
    before = (
        {name: value.detach().clone() for name, value in learner.parameters.items()},
        {n: state[p]["momentum_buffer"].clone() for n, p in learner.parameters.items()},
    )
    gamma, average = learner.harmony.gamma.clone(), torch.tensor([2.0, 1.0, 1.5]).double()
    learner.harmony.average_ce = average
    _, found = LOOK_AHEADS["online"](learner, batches, metaval_batch, RATE)

    ahead, ce, gamma = real_step(learner.forward, gamma, before, batches, metaval_batch, **sgd)
    for name, value in learner.parameters.items():
        torch.testing.assert_close(value, ahead[name], rtol=1e-9, atol=1e-12)
    (expected,) = torch.autograd.grad(meta_objective(ce, average, settings.gamma.alpha), gamma)
    assert float((found - expected).norm() / expected.norm()) < 1e-9
