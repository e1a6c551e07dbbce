"""How L_val after one look-ahead step depends on γ (Eq. 8).

With θ' = θ − ξ∇L_train(θ, γ) and v = ∇L_val(θ'), the chain rule gives, L_train = γ·ℓ being linear
in γ,

    ∂L_val/∂γ_i = −ξ ⟨∇ℓ_i(θ), v⟩,

θ' may also be where the real SGD step has led ("online"): past momentum and weight decay are
constants for γ, and the formula holds with ξ times the factor that the step gives to ∇L_train.

⟨∇ℓ_i(θ), v⟩ is the derivative of ℓ_i when θ moves along v. One forward-mode pass moves the
logits along v; the closed forms of :func:`objective.loss_vector_derivative` then give all n
entries. No second-order graph is built.

All quantities are those of the *global* batch: over micro-batches they are averaged here, over
ranks by ``mean``, at four places (∇L_train, CE_k, v, the entries), in the same order on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hdkd_dist.method.forward_mode import Tangents
from hdkd_dist.method.meta_objective import exit_weights
from hdkd_dist.method.objective import cross_entropies, loss_vector, loss_vector_derivative

Parameters = Mapping[str, Tensor]
Forward = Callable[[Parameters, Tensor], Tensor]  # (parameters, images) → logits [K, B, C]
Example = tuple[Tensor, Tensor]  # images [B, …], labels [B] of one micro-batch
Mean = Callable[[Sequence[Tensor]], list[Tensor]]  # over ranks
Solver = Callable[[Forward, Parameters, Parameters, Example, Tensor], Tensor]


@dataclass(frozen=True)
class Hypergradient:
    """∂L_val/∂γ and what was seen on the way to it."""

    gradient: Tensor  # [n]
    ce: Tensor  # CE_k of the meta-validation batch at θ', [K]


def look_ahead(
    train_forward: Forward,
    parameters: Parameters,
    gamma: Tensor,
    train_batch: Sequence[Example],
    *,
    step_size: float,
    temperature: Tensor,
    mean: Mean = list,
) -> Parameters:
    """θ' = θ − ξ∇L_train(θ, γ): one plain gradient step on the global batch (Eq. 8), by name.

    Args:
        train_forward: the network as the training step runs it (gradient equilibrium included).
        parameters: θ, by name; untouched.
        gamma: γ, [n].
        train_batch: this rank's micro-batches of the training batch, all of one size.
        step_size: ξ, the current learning rate.
        temperature: T.
        mean: averages tensors over ranks; the default is that of a single process.
    """
    gamma = gamma.detach()

    def objective(logits: Tensor, labels: Tensor) -> Tensor:  # Eq. 5
        return gamma @ loss_vector(logits, labels, temperature)

    gradient = mean_gradient(train_forward, parameters, train_batch, objective, mean)
    return gradient_step(parameters, gradient, step_size)


def gradient_step(parameters: Parameters, gradient: Parameters, step_size: float) -> Parameters:
    """θ − ξg, by name."""
    values = [value.detach() for value in parameters.values()]
    moved = torch._foreach_add(values, [gradient[name] for name in parameters], alpha=-step_size)
    return dict(zip(parameters, moved, strict=True))


def hypergradient(
    train_forward: Forward,
    forward: Forward,
    parameters: Parameters,
    ahead: Parameters,
    train_batch: Sequence[Example],
    metaval_batch: Sequence[Example],
    *,
    step_size: float,
    temperature: Tensor,
    average_ce: Tensor | None,
    alpha: float,
    solver: Solver,
    mean: Mean = list,
) -> Hypergradient:
    """∂L_val(θ')/∂γ for a θ' that was reached from θ by a step on ``train_batch`` (Eqs. 8 to 10).

    Args:
        train_forward: the network as the training step runs it (gradient equilibrium included).
        forward: the network as it is; ∇L_val is the true gradient.
        parameters: θ, by name.
        ahead: θ', by name: from :func:`look_ahead`, or where the real step has led.
        train_batch: this rank's micro-batches of the training batch, all of one size.
        metaval_batch: this rank's micro-batches of the meta-validation batch, all of one size.
        step_size: ξ in ∂θ'/∂γ_i = −ξ∇ℓ_i(θ).
        temperature: T of that step.
        average_ce: E_k, [K]; ``None`` before the first observation.
        alpha: α of Eq. 10.
        solver: one of :data:`SOLVERS`.
        mean: averages tensors over ranks; the default is that of a single process.

    Returns:
        The same on every rank.
    """
    v, ce = metaval_gradient(
        forward, ahead, metaval_batch, average_ce=average_ce, alpha=alpha, mean=mean
    )
    theta = {name: value.detach() for name, value in parameters.items()}
    entries = average(
        solver(train_forward, theta, v, example, temperature) for example in train_batch
    )
    return Hypergradient(gradient=-step_size * mean([entries])[0], ce=ce)


def metaval_gradient(
    forward: Forward,
    theta: Parameters,
    batch: Sequence[Example],
    *,
    average_ce: Tensor | None,
    alpha: float,
    mean: Mean,
) -> tuple[dict[str, Tensor], Tensor]:
    """v = ∇_θ L_val(θ) of the global batch, by name, and CE_1..CE_K of that batch, [K].

    Eq. 10 is not linear in CE_k, so the weights of the exits' gradients need the global CE_k
    before any backward pass. A single micro-batch keeps its graph meanwhile; of several, a first
    forward pass without a graph finds CE_k.
    """
    leaves = differentiable(theta)
    with torch.set_grad_enabled(len(batch) == 1):
        local = [cross_entropies(forward(leaves, images), labels) for images, labels in batch]
    ce = mean([average(losses.detach() for losses in local)])[0]
    weights = exit_weights(ce, ce if average_ce is None else average_ce, alpha)
    if len(batch) == 1:
        gradient = mean(gradient_of(weights @ local[0], leaves))
        return dict(zip(leaves, gradient, strict=True)), ce

    def objective(logits: Tensor, labels: Tensor) -> Tensor:
        return weights @ cross_entropies(logits, labels)

    return mean_gradient(forward, theta, batch, objective, mean), ce


def mean_gradient(
    forward: Forward,
    theta: Parameters,
    batch: Sequence[Example],
    objective: Callable[[Tensor, Tensor], Tensor],
    mean: Mean,
) -> dict[str, Tensor]:
    """∇_θ of ``objective(logits, labels)``, averaged over micro-batches and ranks, by name."""
    leaves = differentiable(theta)
    total: list[Tensor] | None = None
    for images, labels in batch:
        loss = objective(forward(leaves, images), labels) / len(batch)
        gradient = gradient_of(loss, leaves)
        total = gradient if total is None else torch._foreach_add(total, gradient)
    return dict(zip(leaves, mean(total), strict=True))


def jvp(
    forward: Forward, theta: Parameters, v: Parameters, example: Example, temperature: Tensor
) -> Tensor:
    """⟨∇ℓ_i(θ), v⟩ for all i by one forward-mode pass, [n]: exact, and without any graph."""
    images, labels = example
    with torch.no_grad(), forward_ad.dual_level(), Tangents():
        moving = {name: forward_ad.make_dual(value, v[name]) for name, value in theta.items()}
        logits, tangents = forward_ad.unpack_dual(forward(moving, images))
    return loss_vector_derivative(logits, tangents, labels, temperature)


def second_order(
    forward: Forward, theta: Parameters, v: Parameters, example: Example, temperature: Tensor
) -> Tensor:
    """⟨∇ℓ_i(θ), v⟩ for all i by double backward, [n]: the reference for :func:`jvp`."""
    images, labels = example
    leaves = differentiable(theta)
    losses = loss_vector(forward(leaves, images), labels, temperature)
    gamma = torch.ones_like(losses, requires_grad=True)
    gradient = gradient_of(gamma @ losses, leaves, create_graph=True)
    along_v = sum((g * v[name]).sum() for name, g in zip(leaves, gradient, strict=True))
    return torch.autograd.grad(along_v, gamma)[0]


def finite_difference(
    forward: Forward, theta: Parameters, v: Parameters, example: Example, temperature: Tensor
) -> Tensor:
    """⟨∇ℓ_i(θ), v⟩ for all i from the logits a little before and behind θ along v, [n].

    For comparison: with batch norm and ReLU no width is right, a small one drowns in rounding and
    a large one passes over kinks. The width is that of DARTS (Liu et al. 2019), 0.01/‖v‖.
    """
    images, labels = example
    width = 0.01 / torch.stack(torch._foreach_norm(list(v.values()))).norm()
    with torch.no_grad():
        behind, before = (
            forward({name: value + sign * width * v[name] for name, value in theta.items()}, images)
            for sign in (1, -1)
        )
    middle, tangents = (behind + before) / 2, (behind - before) / (2 * width)
    return loss_vector_derivative(middle, tangents, labels, temperature)


SOLVERS: dict[str, Solver] = {
    "jvp": jvp,
    "second_order": second_order,
    "finite_difference": finite_difference,
}


def differentiable(theta: Parameters) -> dict[str, Tensor]:
    """θ as leaves that a gradient can be taken for, sharing memory with the given tensors."""
    return {name: value.detach().requires_grad_() for name, value in theta.items()}


def gradient_of(loss: Tensor, leaves: Parameters, **graph: bool) -> list[Tensor]:
    """∂loss by every leaf, in order; zero for a parameter that no exit uses.

    Args:
        loss: a scalar.
        leaves: by name.
        graph: ``create_graph`` or ``retain_graph``.
    """
    gradient = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True, **graph)
    return list(gradient)


def average(values: Iterable[Tensor]) -> Tensor:
    """The mean of equally shaped tensors."""
    return torch.stack(list(values)).mean(dim=0)
