"""A step of Algorithm 1: on the meta device, where a host synchronisation fails, and in numbers."""

from __future__ import annotations

import pytest
import torch
from ranks_harness import on_ranks
from small_network import flattened, small_msdnet

from hdkd_dist.data.normalize import Normalize
from hdkd_dist.data.streams import AsTheyCome
from hdkd_dist.distributed import ranks
from hdkd_dist.method.algorithm import Algorithm
from hdkd_dist.method.engines import PlainEngine
from hdkd_dist.method.functional import forward_of
from hdkd_dist.method.hypergradient import alone, look_ahead, metaval_gradient, second_order
from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.objective import cross_entropies, loss_vector
from hdkd_dist.method.state import start_weights
from hdkd_dist.method.weights import METHODS, ds_like, existing_entries
from hdkd_dist.models import build
from hdkd_dist.training.measure import Meter

RATE, CPU = 0.1, torch.device("cpu")
KINDS = ["lookahead", "online"]


def algorithm_for(
    network, method="hdkd", *, accumulation=1, mean=alone, sgd=None, weights=None, **how
):
    """Algorithm 1 on a network, with γ at the start of a method."""
    initial = ds_like(METHODS[method], network.num_exits, 1.0, "per_student")
    exists = existing_entries(METHODS[method], network.num_exits)
    first = next(network.parameters())
    own = {"optimizer": "adam" if METHODS[method].learns else None, "rate": 1e-3, **(weights or {})}
    sgd = {"momentum": 0.9} if sgd is None else sgd
    return Algorithm(
        engine=PlainEngine(
            network, torch.optim.SGD(network.parameters(), lr=RATE, **sgd), accumulation
        ),
        weights=start_weights(initial.to(first), exists.to(first), **own),
        gradient_share=1 + sgd["momentum"] if sgd.get("nesterov") else 1.0,
        mean=mean,
        **{"prepare": Normalize.of([0.5] * 3, [0.25] * 3, first.device), **how},
    )


def take_steps(algorithm, batches, count=2):
    """``count`` steps of γ and θ as the trainer takes them."""
    network, weights = algorithm.engine.module, algorithm.weights
    meter = Meter(network.num_exits, weights.gamma.device)
    for step in range(count):
        if weights.learns:
            seen, gradient = algorithm.step(batches, batches, RATE)
            meter.add_gamma_step(step, gradient, drift=gradient.norm() * 0)
        else:
            seen = algorithm.train_step(batches)
        meter.add(step, seen, weights.gamma, images=8)


def stored(count, side, device):
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(256, (8, 3, side, side), generator=generator).byte().to(device),
            torch.randint(5, (8,), generator=generator).to(device),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("preset", ["msdnet-digits", "resnet-digits", "vit-digits"])
@pytest.mark.parametrize(
    ("method", "accumulation", "how"),
    [
        ("hdkd", 1, {"lookahead": "lookahead"}),
        ("hdkd", 1, {"lookahead": "lookahead", "takes_over": True}),
        ("hdkd", 2, {"lookahead": "lookahead"}),
        ("hdkd", 1, {"lookahead": "online", "takes_over": True}),
        ("hdkd", 2, {"lookahead": "online"}),
        ("hdkd", 2, {"lookahead": "online", "scope": "local"}),
        ("impr", 1, {}),
        ("impr", 2, {}),
    ],
)
def test_whole_step_runs_on_the_meta_device(preset, method, accumulation, how):
    meta = torch.device("meta")
    network = build(preset, 5).to(meta)
    if METHODS[method].gradient_equilibrium:
        how = {**how, "arguments": {"gradient_equilibrium": True}}
    weights = {"annealing": True, "temperature": 1.0}
    algorithm = algorithm_for(network, method, accumulation=accumulation, weights=weights, **how)
    take_steps(algorithm, stored(accumulation, 16, meta))
    assert algorithm.weights.gamma.device.type == "meta"
    assert algorithm.weights.temperature.device.type == "meta"


@pytest.mark.parametrize("average_of", ["metaval", "train"])
@pytest.mark.parametrize("constraint", ["none", "nonnegative", "fixed_sum", "fixed_norm"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_way_of_moving_gamma_runs_on_the_meta_device(constraint, optimizer, average_of):
    meta = torch.device("meta")
    objective = MetaObjective(average_of=average_of)
    weights = {"constraint": constraint, "optimizer": optimizer, "meta": objective}
    algorithm = algorithm_for(build("msdnet-digits", 5).to(meta), weights=weights)
    take_steps(algorithm, stored(1, 16, meta), count=1)


def test_meta_device_would_notice_a_host_synchronisation():
    with pytest.raises(RuntimeError):
        float(torch.zeros((), device="meta"))
    with pytest.raises(RuntimeError):
        torch.zeros(3, device="meta") + torch.zeros(3)


@pytest.mark.parametrize("kind", KINDS)
def test_running_statistics_move_once_per_micro_batch_of_training(kind):
    network = small_msdnet().train()
    take_steps(algorithm_for(network, accumulation=2, lookahead=kind), stored(2, 16, CPU), count=3)
    counted = {int(b) for name, b in network.named_buffers() if name.endswith("tracked")}
    assert counted == {6}


def test_step_of_theta_uses_the_gamma_that_was_just_learned():
    """Lookahead: «the loss weights of the current batch»."""
    batches, network = stored(1, 16, CPU), small_msdnet().train()
    algorithm = algorithm_for(network, sgd={}, weights={"rate": 0.3, "temperature": 1.0})
    algorithm.step(batches, batches, RATE)
    weights = algorithm.weights
    assert not torch.allclose(weights.gamma, weights.initial, atol=0.1)

    def stepped(gamma):
        other = small_msdnet().train()
        images = Normalize.of([0.5] * 3, [0.25] * 3, CPU)(batches[0][0])
        (gamma @ loss_vector(other(images), batches[0][1], 1.0)).backward()
        torch.optim.SGD(other.parameters(), lr=0.1).step()
        return flattened(other)

    found = flattened(network)
    torch.testing.assert_close(found, stepped(weights.gamma), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, stepped(weights.initial), rtol=1e-4, atol=1e-6)


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


def double_algorithm(accumulation=1, mean=alone, sgd=None, weights=None, frozen=None, **how):
    """In float64, with a γ that stays where it is unless told; ``frozen`` picks parameters."""
    network = small_msdnet().double().train()
    for name, parameter in network.named_parameters():
        parameter.requires_grad = frozen is None or not frozen(name, parameter)
    weights = {"optimizer": "sgd", "rate": 1e-12, **(weights or {})}
    algorithm = algorithm_for(
        network,
        accumulation=accumulation,
        mean=mean,
        sgd=sgd,
        weights=weights,
        prepare=prepare_double,
        **how,
    )
    algorithm.weights.temperature = algorithm.weights.temperature.double()
    return algorithm


@pytest.mark.parametrize("reuses", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gamma_step_agrees_with_double_backward(kind, reuses):
    """With recorded convolutions or without; θ and its statistics go on as they do alone."""
    train, metaval = stored(2, 16, CPU)
    algorithm = double_algorithm(lookahead=kind, takes_over=reuses)
    twin = double_algorithm()
    theta = {name: value.detach().clone() for name, value in algorithm.theta.items()}
    _, found = algorithm.step([train], [metaval], RATE)
    twin.train_step([train])
    state = algorithm.engine.module.state_dict()
    torch.testing.assert_close(state, twin.engine.module.state_dict(), rtol=1e-9, atol=1e-12)

    network, losses = small_msdnet().double().train(), twin.losses_now()
    forward = forward_of(network, prepare_double)
    gamma = algorithm.weights.initial
    ahead = look_ahead(forward, losses, theta, gamma, [train], step_size=RATE)
    if kind == "online":  # the first step of momentum is the plain one
        torch.testing.assert_close(dict(algorithm.theta), ahead, rtol=1e-9, atol=1e-12)
    v, _ = metaval_gradient(forward, cross_entropies, ahead, [metaval], MetaObjective())
    expected = -RATE * second_order(forward, losses, theta, v, train)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_fixed_norm_keeps_the_size_of_the_gradient():
    batches = stored(2, 16, CPU)
    weights = {"optimizer": "adam", "rate": 0.3, "constraint": "fixed_norm"}
    algorithm = double_algorithm(weights=weights)
    theta = {name: value.detach().clone() for name, value in algorithm.theta.items()}
    algorithm.step(batches[:1], batches[1:], RATE)
    gamma, initial = algorithm.weights.gamma, algorithm.weights.initial

    def norm(weights):
        network = small_msdnet().double().train()
        network.load_state_dict(theta, strict=False)
        images, labels = batches[0]
        (weights @ loss_vector(network(prepare_double(images)), labels, 3.0)).backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()]).norm()

    torch.testing.assert_close(norm(gamma), norm(initial), rtol=1e-9, atol=0)
    assert not torch.allclose(gamma / gamma.sum(), initial / initial.sum(), atol=0.01)


def test_average_of_the_training_batch_is_taken_at_theta():
    """The other reading of Eq. 9."""
    (train, metaval), network = stored(2, 16, CPU), small_msdnet().double().train()
    with torch.no_grad():
        expected = cross_entropies(network(prepare_double(train[0])), train[1])
    for kind in KINDS:
        meta = MetaObjective(average_of="train")
        algorithm = double_algorithm(weights={"meta": meta}, lookahead=kind)
        algorithm.step([train], [metaval], RATE)
        torch.testing.assert_close(meta.average_ce, expected, rtol=1e-9, atol=0)


def test_local_scope_averages_nothing_but_the_entries_and_what_E_k_needs():
    train, metaval = stored(2, 16, CPU)
    averaged = []

    def mean(tensors):
        averaged.append([tensor.numel() for tensor in tensors])
        return [tensor + 0.0 for tensor in tensors]

    _, local = double_algorithm(mean=mean, scope="local").step([train], [metaval], RATE)
    assert averaged == [[6, 3]]
    _, whole = double_algorithm().step([train], [metaval], RATE)
    torch.testing.assert_close(local, whole)


def test_local_scope_is_the_mean_of_what_each_rank_finds_alone():
    found = on_ranks(2, local_step)
    separate, gradients, average_ce = zip(*found, strict=True)
    torch.testing.assert_close(gradients[0], (separate[0][0] + separate[1][0]) / 2)
    torch.testing.assert_close(average_ce[0], (separate[0][1] + separate[1][1]) / 2)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(average_ce[0], average_ce[1])
    assert float((gradients[0] - separate[0][0]).norm() / gradients[0].norm()) > 0.01


def local_step():
    """The hypergradient and E_k of this rank's batches: alone, and with scope local."""
    batches = stored(4, 16, CPU)[2 * ranks.rank() :]
    results = []
    for mean in (alone, ranks.mean_over_ranks):
        algorithm = double_algorithm(mean=mean, scope="local")
        theta, losses = algorithm.theta, algorithm.losses_now()
        gradient = algorithm.gamma_step(theta, theta, losses, batches[:1], batches[1:2], RATE)
        results.append((gradient, algorithm.weights.meta.average_ce))
    return results[0], *results[1]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("equilibrium", [False, True])
def test_online_differentiates_the_real_optimiser_step(nesterov, accumulation, equilibrium):
    """Gradient equilibrium is a matter of the training pass alone."""
    assert_online_is_exact(nesterov, accumulation, equilibrium)


FROZEN = {
    "a stage": lambda name, parameter: name.startswith("stages.0."),
    "weights of batch norm": lambda name, parameter: parameter.dim() == 1 and "weight" in name,
    "biases": lambda name, parameter: name.endswith("bias"),
    "convolutions": lambda name, parameter: parameter.dim() == 4,
}


@pytest.mark.parametrize("part", FROZEN)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_online_leaves_frozen_parameters_out(part, accumulation):
    """As the optimiser does. With accumulation nothing is recorded."""
    network = assert_online_is_exact(False, accumulation, equilibrium=False, frozen=FROZEN[part])
    start = dict(small_msdnet().double().named_parameters())
    moved = {n: not torch.equal(p, start[n]) for n, p in network.named_parameters()}
    assert moved == {n: not FROZEN[part](n, p) for n, p in network.named_parameters()}


def assert_online_is_exact(nesterov, accumulation, equilibrium, frozen=None):
    """Against double backward through that step, in the midst of a training, in float64."""
    sgd = {"momentum": 0.9, "weight_decay": 1e-2, "nesterov": nesterov}
    batches = stored(accumulation, 16, CPU)
    metaval_batch = [(255 - images, labels) for images, labels in batches]
    arguments = {"gradient_equilibrium": True} if equilibrium else {}
    algorithm = double_algorithm(
        accumulation,
        sgd=sgd,
        frozen=frozen,
        arguments=arguments,
        lookahead="online",
        takes_over=accumulation == 1,
    )
    for _ in range(2):
        algorithm.train_step(batches)
    state, theta = algorithm.engine.optimizer.state, algorithm.theta
    before = (
        {name: value.detach().clone() for name, value in theta.items()},
        {n: state[p]["momentum_buffer"].clone() for n, p in theta.items()},
    )
    gamma, average = algorithm.weights.gamma.clone(), torch.tensor([2.0, 1.0, 1.5]).double()
    algorithm.weights.meta.average_ce = average
    _, found = algorithm.step(batches, metaval_batch, RATE)

    network = algorithm.engine.module
    training = forward_of(network, prepare_double, **arguments)
    validation = forward_of(network, prepare_double)
    ahead, ce, gamma = real_step(training, validation, gamma, before, batches, metaval_batch, **sgd)
    for name, value in algorithm.theta.items():
        torch.testing.assert_close(value, ahead[name], rtol=1e-9, atol=1e-12)
    (expected,) = torch.autograd.grad(MetaObjective(average_ce=average).loss(ce), gamma)
    assert float((found - expected).norm() / expected.norm()) < 1e-9
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_that_come_one_by_one_give_the_same_step_to_the_bit(kind):
    batches = stored(2, 16, CPU)
    trained = []
    for given in (batches, AsTheyCome(iter(batches), 2)):
        algorithm = algorithm_for(small_msdnet(), accumulation=2, lookahead=kind)
        seen, gradient = algorithm.step(given, batches, RATE)
        trained.append([flattened(algorithm.engine.module), algorithm.weights.gamma, gradient])
        trained[-1] += [seen.losses, seen.correct]
    assert all(map(torch.equal, *trained))
