"""Passes that are captured and repeated give what they give without; on a CPU by a tape of them.

``benchmarks/gpu.py --parts graphs`` compares CUDA graphs in the same way.
"""

from __future__ import annotations

import pytest
import torch
from small_network import small_msdnet
from tape import capture_on_tape
from test_algorithm import RATE, algorithm_for
from torch import nn

from hdkd_dist.method.graphs import PASSES_BEFORE, ForwardMode, Graphs, NoDerivative, ReverseMode

KINDS = ["lookahead", "online"]


def batches(count, size=8, side=16):
    return [
        (torch.randint(256, (size, 3, side, side)).byte(), torch.randint(5, (size,)))
        for _ in range(count)
    ]


def state_of(algorithm):
    network, weights = algorithm.engine.module, algorithm.weights
    tensors = [weights.gamma, weights.temperature, weights.meta.average_ce]
    return [*tensors, *network.parameters(), *network.buffers()]


def trained(algorithm, accumulation=1, sizes=(8,) * 12):
    """State after steps on images of their own; each third step leaves γ where it is."""
    torch.manual_seed(2)
    for step, size in enumerate(sizes):
        train, metaval = (batches(accumulation, size) for _ in range(2))
        if step % 3 == 1:
            algorithm.train_step(train)
        else:
            algorithm.step(train, metaval, RATE)
    return state_of(algorithm)


def assert_same_with_graphs(make, **training):
    """Train with graphs and without: the same bits. Return the captured passes' names and kinds."""
    graphs = Graphs(capture_on_tape)
    expected, found = trained(make(), **training), trained(make(graphs=graphs), **training)
    assert all(map(torch.equal, found, expected))
    return {key for key, each in graphs.passes.items() if each.captured is not None}


EXPECTED = {
    "online": {
        ("training", ReverseMode),
        ("validation", ReverseMode),
        ("derivative", ForwardMode),
    },
    "lookahead": {
        ("training", ReverseMode),
        ("look-ahead", ReverseMode),
        ("validation", ReverseMode),
        ("derivative", ForwardMode),
    },
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reuses", [True, False])
def test_graphs_change_nothing(kind, reuses):
    def make(**how):
        weights = {"annealing": True, "temperature": 1.0}
        how |= {"lookahead": kind, "takes_over": reuses, "weights": weights}
        return algorithm_for(small_msdnet().train(), **how)

    assert assert_same_with_graphs(make) == EXPECTED[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_several_micro_batches_repeat_the_same_graphs(kind):
    def make(**how):
        return algorithm_for(small_msdnet().train(), accumulation=2, lookahead=kind, **how)

    found = assert_same_with_graphs(make, accumulation=2)
    assert found == EXPECTED[kind] | {("validation", NoDerivative)}


@pytest.mark.parametrize("how", [{"autocast": torch.bfloat16, "casts_together": True}, {}])
@pytest.mark.parametrize("constraint", ["fixed_norm", "none"])
def test_passes_of_another_precision_and_further_passes(how, constraint):
    def make(**more):
        weights = {"constraint": constraint}
        return algorithm_for(
            small_msdnet().train(), lookahead="online", weights=weights, **how, **more
        )

    assert assert_same_with_graphs(make) == EXPECTED["online"]


def test_batch_of_another_size_runs_as_it_is():
    def make(**how):
        return algorithm_for(small_msdnet().train(), lookahead="online", takes_over=True, **how)

    sizes = (8, 8, 8, 8, 8, 8, 8, 6, 6, 6, 8, 8)
    assert assert_same_with_graphs(make, sizes=sizes) == EXPECTED["online"]


def test_frozen_parameters_stay():
    def make(**how):
        network = small_msdnet().train()
        for parameter in list(network.parameters())[:3]:
            parameter.requires_grad = False
        return algorithm_for(network, lookahead="online", **how)

    assert assert_same_with_graphs(make) == EXPECTED["online"]


def test_pass_that_draws_random_numbers_is_not_captured():
    def make(**how):
        network = small_msdnet().train()
        network.classifiers[0].linear = nn.Sequential(
            nn.Dropout(0.5), network.classifiers[0].linear
        )
        return algorithm_for(network, lookahead="online", takes_over=True, **how)

    with pytest.warns(UserWarning, match="CUDA graph: it draws random numbers"):
        assert assert_same_with_graphs(make) == set()


def test_pass_that_torch_cannot_capture_runs_as_it_is():
    calls = []

    def refusing(run):
        calls.append(run)
        run()
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    run = Graphs(refusing).replayed("a pass", lambda p, x: p["a"] * x.sum())

    def passes(first, count):
        return [run({"a": torch.ones(1)}, torch.full((3,), float(first + i))) for i in range(count)]

    found = passes(0, PASSES_BEFORE)
    with pytest.warns(UserWarning, match="CUDA graph: operation not permitted when stream is capt"):
        found += passes(PASSES_BEFORE, 1)
    found += passes(PASSES_BEFORE + 1, 2)
    assert [float(f) for f in found] == [3.0 * i for i in range(PASSES_BEFORE + 3)]
    assert len(calls) == 1


def test_memory_that_does_not_suffice_for_a_capture_is_not_passed_over():
    def exhausted(run):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    run = Graphs(exhausted).replayed("a pass", lambda p, x: p["a"] * x)
    for _ in range(PASSES_BEFORE):
        run({"a": torch.ones(1)}, torch.ones(1))
    with pytest.raises(torch.OutOfMemoryError):
        run({"a": torch.ones(1)}, torch.ones(1))


def test_graph_reads_its_arguments_and_a_networks_own_parameters_where_they_lie():
    own, graphs = nn.Parameter(torch.ones(2)), Graphs(capture_on_tape)
    run = graphs.replayed("a pass", lambda p, x: p["own"] * p["given"] * x)
    for i in range(PASSES_BEFORE + 3):
        given, x = torch.full((2,), float(i), requires_grad=True), torch.full((2,), 10.0)
        result = run({"own": own, "given": given}, x)
        assert result.tolist() == [10.0 * i * float(own.detach()[0])] * 2
        (gradient,) = torch.autograd.grad(result.sum(), given)
        assert gradient.tolist() == [10.0 * float(own.detach()[0])] * 2
        with torch.no_grad():
            own.mul_(2)
    assert graphs.passes["a pass", ReverseMode].captured is not None


def test_backward_pass_is_refused_after_another_forward_pass():
    graphs = Graphs(capture_on_tape)
    run = graphs.replayed("a pass", lambda p, x: p["a"] * x)
    parameters = {"a": torch.ones(2, requires_grad=True)}
    first, *_ = [run(parameters, torch.ones(2)) for _ in range(PASSES_BEFORE + 2)][PASSES_BEFORE:]
    with pytest.raises(RuntimeError, match="another pass has gone over"):
        first.sum().backward()


def test_result_is_not_overwritten_by_the_next_pass():
    graphs = Graphs(capture_on_tape)
    run = graphs.replayed("a pass", lambda p, x: p["a"] * x)
    with torch.no_grad():
        found = [run({"a": torch.ones(1)}, torch.full((1,), float(i))) for i in range(6)]
    assert [float(f) for f in found] == [0, 1, 2, 3, 4, 5]


def test_network_keeps_its_own_forward():
    network = small_msdnet().train()
    trained(algorithm_for(network, lookahead="online", graphs=Graphs(capture_on_tape)))
    assert "forward" not in vars(network)
