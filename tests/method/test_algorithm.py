"""A step of Algorithm 1: on the meta device, where a host synchronisation fails, and in numbers."""

from __future__ import annotations

import pytest
import torch
from ranks_harness import on_ranks
from small_network import flattened, small_msdnet

from hdkd_dist.config.settings import Settings
from hdkd_dist.data.normalize import Normalize
from hdkd_dist.distributed import ranks
from hdkd_dist.method.algorithm import LOOK_AHEADS, Look, learn_weights, train_network
from hdkd_dist.method.functional import forward_of
from hdkd_dist.method.meta_objective import meta_objective
from hdkd_dist.method.objective import cross_entropies, loss_vector
from hdkd_dist.method.weights import METHODS
from hdkd_dist.models import build
from hdkd_dist.training.build import build_learner
from hdkd_dist.training.gamma import start_harmony
from hdkd_dist.training.measure import Meter

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


def learner_of(
    network, settings, device, accumulation, equilibrium=False, mean=list, prepare=None, **sgd
):
    prepare = prepare or Normalize.of([0.5] * 3, [0.25] * 3, device)
    deepspeed = {"optimizer": {"params": sgd}, "gradient_accumulation_steps": accumulation}
    return build_learner(
        PlainEngine(network, accumulation, **sgd),
        start_harmony(settings, network.num_exits, device),
        prepare,
        settings,
        deepspeed,
        gradient_equilibrium=equilibrium,
        mean=mean,
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
    ("method", "accumulation", "gamma"),
    [
        ("hdkd", 1, {"lookahead": "lookahead"}),
        ("hdkd", 2, {"lookahead": "lookahead"}),
        ("hdkd", 1, {"lookahead": "lookahead_keep_graph"}),
        ("hdkd", 1, {"lookahead": "online"}),
        ("hdkd", 2, {"lookahead": "online"}),
        ("hdkd", 2, {"lookahead": "online", "train_part": 0.25, "scope": "local"}),
        ("impr", 1, {}),
        ("impr", 2, {}),
    ],
)
def test_whole_step_runs_on_the_meta_device(preset, method, accumulation, gamma):
    meta = torch.device("meta")
    network = build(preset, 5).to(meta)
    settings = settings_of(method, **gamma)
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


@pytest.mark.parametrize("kind", ["lookahead", "lookahead_keep_graph"])
def test_step_of_theta_uses_the_gamma_that_was_just_learned(kind):
    """Lookahead: «the loss weights of the current batch»."""
    cpu = torch.device("cpu")
    batches = stored(1, 16, cpu)
    network = small_msdnet().train()
    settings = settings_of("hdkd", lr=0.3, lookahead=kind)
    harmony, _ = take_steps(network, settings, cpu, batches, count=1)
    assert not torch.allclose(harmony.gamma, harmony.initial, atol=0.1)

    def stepped(gamma):
        other = small_msdnet().train()
        images = Normalize.of([0.5] * 3, [0.25] * 3, cpu)(batches[0][0])
        (gamma @ loss_vector(other(images), batches[0][1], 1.0)).backward()
        torch.optim.SGD(other.parameters(), lr=0.1).step()
        return flattened(other)

    found = flattened(network)
    torch.testing.assert_close(found, stepped(harmony.gamma), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, stepped(harmony.initial), rtol=1e-4, atol=1e-6)


def real_step(training, validation, gamma, before, train_batch, metaval_batch, **sgd):
    """θ' and its CE_k, differentiable in γ: the optimiser's step written out."""
    theta, buffers = before
    gamma = gamma.clone().requires_grad_()
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    losses = sum(loss_vector(training(leaves, x), y, 3.0) for x, y in train_batch)
    gradient = torch.autograd.grad(
        gamma @ losses / len(train_batch), list(leaves.values()), create_graph=True
    )
    ahead = {}
    for (name, value), g in zip(leaves.items(), gradient, strict=True):
        g = g + sgd["weight_decay"] * value
        momentum = sgd["momentum"] * buffers[name] + g
        step = g + sgd["momentum"] * momentum if sgd["nesterov"] else momentum
        ahead[name] = value - RATE * step
    ce = sum(cross_entropies(validation(ahead, x), y) for x, y in metaval_batch)
    return ahead, ce / len(metaval_batch), gamma


def prepare_double(images):
    return (images.double() - 127.5) / 63.75


def double_learner(settings, accumulation=1, mean=list, equilibrium=False, **sgd):
    """In float64, with a γ that stays where it is."""
    cpu, network = torch.device("cpu"), small_msdnet().double().train()
    learner = learner_of(
        network, settings, cpu, accumulation, equilibrium, mean, prepare_double, **sgd
    )
    harmony = learner.harmony
    harmony.gamma = harmony.gamma.double()
    harmony.temperature = harmony.temperature.double()
    harmony.optimizer = torch.optim.SGD([harmony.gamma], lr=1e-12)
    return learner


def gamma_step(gamma, train_batch, metaval_batch, mean=list):
    """Hypergradient, θ and buffers after one step in float64."""
    settings = Settings.model_validate({**SETTINGS, "method": "hdkd", "gamma": gamma})
    learner = double_learner(settings, len(train_batch), mean, momentum=0.9)
    step = LOOK_AHEADS[settings.gamma.lookahead]
    _, gradient = step(learner, train_batch, metaval_batch, RATE)
    return gradient, learner.engine.module.state_dict()


@pytest.mark.parametrize("kind", ["lookahead_keep_graph", "lookahead", "online"])
def test_what_is_kept_and_what_is_computed_again_are_equal(kind):
    """One graph or two, recorded outputs of convolutions or none: the same step."""
    train, metaval = stored(2, 16, torch.device("cpu"))
    twin = "online" if kind == "online" else "lookahead"  # without a record
    gradient, state = gamma_step({"lookahead": kind}, [train], [metaval])
    expected, expected_state = gamma_step(
        {"lookahead": twin, "solver": "second_order"}, [train], [metaval]
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(state, expected_state, rtol=1e-9, atol=1e-12)


def test_part_of_the_train_batch_is_its_first_images():
    """Only the forward-mode pass sees fewer: θ' stays."""
    train, metaval = stored(2, 16, torch.device("cpu"))
    part, state = gamma_step({"train_part": 0.25}, [train], [metaval])
    whole, whole_state = gamma_step({}, [train], [metaval])
    torch.testing.assert_close(state, whole_state, rtol=0, atol=0)
    assert float((part - whole).norm() / whole.norm()) > 0.01
    others = torch.cat([train[0][:2], 255 - train[0][2:]]), train[1]
    settings = Settings.model_validate({**SETTINGS, "gamma": {"train_part": 0.25}})
    learner = double_learner(settings)
    theta = {name: value.detach() for name, value in learner.parameters.items()}
    look = Look(theta, theta, RATE, learner.harmony.temperature, None)
    found = [learn_weights(learner, look, [batch], [metaval]) for batch in (train, others)]
    torch.testing.assert_close(*found, rtol=1e-9, atol=0)


def test_local_scope_averages_nothing_but_the_entries_and_what_E_k_needs():
    train, metaval = stored(2, 16, torch.device("cpu"))
    averaged = []

    def mean(tensors):
        averaged.append([tensor.numel() for tensor in tensors])
        return [tensor + 0.0 for tensor in tensors]

    local, _ = gamma_step({"scope": "local"}, [train], [metaval], mean)
    assert averaged == [[6, 3]]
    whole, _ = gamma_step({}, [train], [metaval])
    torch.testing.assert_close(local, whole)


def test_local_scope_is_the_mean_of_what_each_rank_finds_alone():
    found = on_ranks(2, local_step)
    alone, gradients, average_ce = zip(*found, strict=True)
    torch.testing.assert_close(gradients[0], (alone[0][0] + alone[1][0]) / 2)
    torch.testing.assert_close(average_ce[0], (alone[0][1] + alone[1][1]) / 2)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(average_ce[0], average_ce[1])
    assert float((gradients[0] - alone[0][0]).norm() / gradients[0].norm()) > 0.01


def local_step():
    """The hypergradient and E_k of this rank's batches: alone, and with scope local."""
    batches = stored(4, 16, torch.device("cpu"))[2 * ranks.rank() :]
    results = []
    for mean in (list, ranks.mean_over_ranks):
        settings = Settings.model_validate({**SETTINGS, "gamma": {"scope": "local"}})
        learner = double_learner(settings, mean=mean)
        theta = {name: value.detach() for name, value in learner.parameters.items()}
        look = Look(theta, theta, RATE, learner.harmony.temperature, None)
        gradient = learn_weights(learner, look, batches[:1], batches[1:2])
        results.append((gradient, learner.harmony.average_ce))
    return results[0], *results[1]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("equilibrium", [False, True])
def test_online_differentiates_the_real_optimiser_step(nesterov, accumulation, equilibrium):
    """Against double backward through that step, in the midst of a training, in float64.

    Gradient equilibrium is a matter of the training pass alone.
    """
    cpu, sgd = torch.device("cpu"), {"momentum": 0.9, "weight_decay": 1e-2, "nesterov": nesterov}
    settings = Settings.model_validate(
        {**SETTINGS, "method": "hdkd", "gamma": {"lookahead": "online", "lr": 1e-9}}
    )
    batches = stored(accumulation, 16, cpu)
    metaval_batch = [(255 - images, labels) for images, labels in batches]
    learner = double_learner(settings, accumulation, equilibrium=equilibrium, **sgd)
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

    network = learner.engine.module
    training = forward_of(network, prepare_double, gradient_equilibrium=equilibrium)
    validation = forward_of(network, prepare_double)
    ahead, ce, gamma = real_step(training, validation, gamma, before, batches, metaval_batch, **sgd)
    for name, value in learner.parameters.items():
        torch.testing.assert_close(value, ahead[name], rtol=1e-9, atol=1e-12)
    (expected,) = torch.autograd.grad(meta_objective(ce, average, settings.gamma.alpha), gamma)
    assert float((found - expected).norm() / expected.norm()) < 1e-9
