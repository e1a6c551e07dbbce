"""The same step of θ and γ, written with libraries for bilevel learning as their pages advise.

They are no dependencies of the project:

    pip install higher==0.2.1 torchopt==0.7.3
    pip install --no-deps --ignore-requires-python betty-ml==0.2.1

Each function gives a function that takes one optimiser step and returns the hypergradient [n]. The
lines of its body are what a user of the library writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from hdkd_dist.method.algorithm import Algorithm
from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.objective import cross_entropies, loss_vector

Example = tuple[Tensor, Tensor]
Step = Callable[[], Tensor]
RATE, MOMENTUM, TEMPERATURE, GAMMA_RATE = 0.1, 0.9, 3.0, 1e-3


def higher_step(algorithm: Algorithm, train: Example, metaval: Example) -> Step:
    """higher: a differentiable copy of network and optimiser inside ``innerloop_ctx``."""
    import higher

    network, meta = algorithm.engine.module, MetaObjective()
    gamma = algorithm.weights.gamma.clone().requires_grad_()
    gamma_optimizer = torch.optim.Adam([gamma], lr=GAMMA_RATE)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    look_ahead = torch.optim.SGD(network.parameters(), lr=RATE)

    def step() -> Tensor:
        with higher.innerloop_ctx(network, look_ahead) as (ahead, differentiable):
            differentiable.step(gamma @ loss_vector(ahead(train[0]), train[1], TEMPERATURE))
            ce = cross_entropies(ahead(metaval[0]), metaval[1])
            loss = meta.loss(ce)
            gamma.grad = torch.autograd.grad(loss, gamma)[0]
        meta.update(ce.detach())
        gamma_optimizer.step()
        losses = loss_vector(network(train[0]), train[1], TEMPERATURE)
        (gamma.detach() @ losses).backward()
        optimizer.step()
        optimizer.zero_grad()
        return gamma.grad

    return step


def torchopt_step(algorithm: Algorithm, train: Example, metaval: Example) -> Step:
    """torchopt: a differentiable ``MetaSGD`` and the network's state set back afterwards."""
    import torchopt

    network, meta = algorithm.engine.module, MetaObjective()
    gamma = algorithm.weights.gamma.clone().requires_grad_()
    gamma_optimizer = torch.optim.Adam([gamma], lr=GAMMA_RATE)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)
    look_ahead = torchopt.MetaSGD(network, lr=RATE)

    def step() -> Tensor:
        state = torchopt.extract_state_dict(network, by="reference", detach_buffers=True)
        look_ahead.step(gamma @ loss_vector(network(train[0]), train[1], TEMPERATURE))
        ce = cross_entropies(network(metaval[0]), metaval[1])
        loss = meta.loss(ce)
        gamma.grad = torch.autograd.grad(loss, gamma)[0]
        torchopt.recover_state_dict(network, state)
        meta.update(ce.detach())
        gamma_optimizer.step()
        losses = loss_vector(network(train[0]), train[1], TEMPERATURE)
        (gamma.detach() @ losses).backward()
        optimizer.step()
        optimizer.zero_grad()
        return gamma.grad

    return step


def betty_step(algorithm: Algorithm, train: Example, metaval: Example) -> Step:
    """betty: two problems and an engine, with its recommended ``darts`` (a finite difference).

    γ is judged by the step that θ has taken, as in "online". betty leaves out the learning rate.
    """
    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.problems import ImplicitProblem

    seen: list[Tensor] = []

    class Weights(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = torch.nn.Parameter(algorithm.weights.gamma.clone())
            self.meta = MetaObjective()

    class Outer(ImplicitProblem):
        def training_step(self, batch: Example) -> Tensor:
            ce = cross_entropies(self.inner(batch[0]), batch[1])
            loss = self.module.meta.loss(ce)
            self.module.meta.update(ce.detach())
            return loss

        def grad_callback(self) -> None:
            seen.append(RATE * self.module.gamma.grad.clone())

    class Inner(ImplicitProblem):
        def training_step(self, batch: Example) -> Tensor:
            losses = loss_vector(self.module(batch[0]), batch[1], TEMPERATURE)
            return self.outer.module.gamma @ losses

    network, weights = algorithm.engine.module, Weights()
    outer = Outer(
        name="outer",
        config=Config(),
        module=weights,
        optimizer=torch.optim.Adam(weights.parameters(), lr=GAMMA_RATE),
        train_data_loader=[metaval],
    )
    inner = Inner(
        name="inner",
        config=Config(type="darts", unroll_steps=1),
        module=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM),
        train_data_loader=[train],
    )
    dependencies = {"u2l": {outer: [inner]}, "l2u": {inner: [outer]}}
    engine = Engine(
        problems=[outer, inner], config=EngineConfig(strategy="cpu"), dependencies=dependencies
    )
    engine.train()

    def step() -> Tensor:
        engine.global_step += 1
        engine.train_step()
        return seen.pop()

    return step


LIBRARIES: dict[str, Callable[[Algorithm, Example, Example], Step]] = {
    "higher": higher_step,
    "torchopt": torchopt_step,
    "betty": betty_step,
}


def user_lines(function: Callable) -> int:
    """Lines of code in the body, without blank lines, comments and its docstring."""
    source = inspect.getsource(function)
    documentation = function.__doc__ or ""
    body = source.split(":\n", 1)[1].replace(f'"""{documentation}"""', "", 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in body.split("\n"))
