"""How L_val after one look-ahead step depends on γ (Eq. 8).

With θ' = θ − ξ∇L_train(θ, γ) and v = ∇L_val(θ'), the chain rule gives, L_train = γ·ℓ being linear
in γ,

    ∂L_val/∂γ_i = −ξ ⟨∇ℓ_i(θ), v⟩,

θ' may also be where the real SGD step has led ("online"): past momentum and weight decay are
constants for γ, and the formula holds with ξ times the factor that the step gives to ∇L_train.

⟨∇ℓ_i(θ), v⟩ is the derivative of ℓ_i when θ moves along v. One forward-mode pass carries it through
the network and the losses, and yields all n entries. No second-order graph is built.

All quantities are those of the *global* batch: over micro-batches they are averaged here, over
ranks by ``mean``, at four places (∇L_train, CE_k, v, the entries), in the same order on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hdkd_dist.method.forward_mode import pushforward
from hdkd_dist.method.meta_objective import MetaObjective

Parameters = Mapping[str, Tensor]
Forward = Callable[[Parameters, Tensor], Tensor]  # (parameters, inputs) → outputs, here [K, B, C]
Losses = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) → a vector of losses, here ℓ [n]
Examples = tuple[Tensor, Tensor]  # inputs [B, …] and targets [B, …] of one micro-batch
Mean = Callable[[Sequence[Tensor]], list[Tensor]]  # over ranks


def alone(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors as they are: the mean over the ranks of a single process."""
    return list(tensors)


def look_ahead(
    forward: Forward,
    losses: Losses,
    parameters: Parameters,
    gamma: Tensor,
    batch: Sequence[Examples],
    *,
    step_size: float,
    mean: Mean = alone,
) -> Parameters:
    """Take one plain gradient step on the global batch: θ' = θ − ξ∇L_train(θ, γ) (Eq. 8), by name.

    Args:
        forward: the network as the training step runs it (gradient equilibrium included).
        losses: ℓ, [n].
        parameters: θ, by name; untouched.
        gamma: γ, [n].
        batch: this rank's micro-batches of the training batch, all of one size.
        step_size: ξ, the current learning rate.
        mean: averages tensors over ranks.
    """
    gradient = mean_gradient(forward, losses, parameters, gamma.detach(), batch, mean)
    values = [value.detach() for value in parameters.values()]
    moved = torch._foreach_add(values, [gradient[name] for name in parameters], alpha=-step_size)
    return dict(zip(parameters, moved, strict=True))


def metaval_gradient(
    forward: Forward,
    losses: Losses,
    theta: Parameters,
    batch: Sequence[Examples],
    meta: MetaObjective,
    mean: Mean = alone,
) -> tuple[dict[str, Tensor], Tensor]:
    """Differentiate L_val (Eq. 10) on the global batch: v = ∇_θ L_val(θ) by name, and CE_k, [K].

    Eq. 10 is not linear in CE_k, so the weights of the exits' gradients need the global CE_k
    before any backward pass. A single micro-batch keeps its graph meanwhile; of several, a first
    forward pass without a graph finds CE_k.

    Args:
        forward: the network as it is; v must be the true gradient.
        losses: CE_k, [K].
        theta: θ', by name.
        batch: this rank's micro-batches of the meta-validation batch, all of one size.
        meta: weighs the CE_k.
        mean: averages tensors over ranks.
    """
    leaves = differentiable(theta)
    with torch.set_grad_enabled(len(batch) == 1):
        local = [losses(forward(leaves, inputs), targets) for inputs, targets in batch]
    ce = mean([average(values.detach() for values in local)])[0]
    weights = meta.exit_weights(ce)
    if len(batch) == 1:
        gradient = mean(gradient_of(weights @ local[0], leaves))
        return dict(zip(leaves, gradient, strict=True)), ce
    return mean_gradient(forward, losses, theta, weights, batch, mean), ce


def hypergradient(
    forward: Forward,
    losses: Losses,
    theta: Parameters,
    v: Parameters,
    batch: Sequence[Examples],
    *,
    step_size: float,
    mean: Mean = alone,
) -> Tensor:
    """Give ∂L_val(θ')/∂γ = −ξ ⟨∇ℓ_i(θ), v⟩ (Eq. 8), [n], the same on every rank.

    Args:
        forward: the network as the training step runs it (gradient equilibrium included).
        losses: ℓ, [n].
        theta: θ, by name, from which a step on ``batch`` led to θ'.
        v: ∇L_val(θ'), by name.
        batch: this rank's micro-batches of the training batch, all of one size.
        step_size: ξ in ∂θ'/∂γ_i = −ξ∇ℓ_i(θ).
        mean: averages tensors over ranks.
    """
    entries = average(jvp(forward, losses, theta, v, examples) for examples in batch)
    return -step_size * mean([entries])[0]


def jvp(
    forward: Forward, losses: Losses, theta: Parameters, v: Parameters, examples: Examples
) -> Tensor:
    """Give ⟨∇ℓ_i(θ), v⟩ for all i by one forward-mode pass, [n]: exact, and without any graph.

    Raises:
        ValueError: naming the module that torch cannot differentiate in forward mode.
    """
    inputs, targets = examples

    def moved(moving: Parameters) -> Tensor:
        return losses(forward(moving, inputs), targets)

    _, tangent = pushforward(moved, theta, v)
    return tangent


def second_order(
    forward: Forward, losses: Losses, theta: Parameters, v: Parameters, examples: Examples
) -> Tensor:
    """Give ⟨∇ℓ_i(θ), v⟩ for all i by double backward, [n]: the reference for :func:`jvp`."""
    inputs, targets = examples
    leaves = differentiable(theta)
    values = losses(forward(leaves, inputs), targets)
    gamma = torch.ones_like(values, requires_grad=True)
    gradient = gradient_of(gamma @ values, leaves, create_graph=True)
    along_v = sum((g * v[name]).sum() for name, g in zip(leaves, gradient, strict=True))
    return torch.autograd.grad(cast(Tensor, along_v), gamma)[0]  # for sum() starts at the int 0


def finite_difference(
    forward: Forward, losses: Losses, theta: Parameters, v: Parameters, examples: Examples
) -> Tensor:
    """Give ⟨∇ℓ_i(θ), v⟩ for all i from the logits at θ ± εv, [n]; for comparison only.

    With batch norm and ReLU no width ε is right: a small one drowns in rounding and a large one
    passes over kinks. Taken is that of DARTS (Liu et al. 2019), 0.01/‖v‖. The losses themselves
    are differentiated exactly, where the teachers stand still.
    """
    inputs, targets = examples
    width = 0.01 / torch.stack(torch._foreach_norm(list(v.values()))).norm()
    with torch.no_grad():
        after, before = (
            forward({name: value + sign * width * v[name] for name, value in theta.items()}, inputs)
            for sign in (1, -1)
        )
        with forward_ad.dual_level():
            outputs = forward_ad.make_dual((after + before) / 2, (after - before) / (2 * width))
            return forward_ad.unpack_dual(losses(outputs, targets)).tangent


def mean_gradient(
    forward: Forward,
    losses: Losses,
    theta: Parameters,
    weights: Tensor,
    batch: Sequence[Examples],
    mean: Mean = alone,
) -> dict[str, Tensor]:
    """Give ∇_θ of weights·losses, averaged over micro-batches and ranks, by name."""
    leaves = differentiable(theta)
    total: list[Tensor] | None = None
    for inputs, targets in batch:
        loss = weights @ losses(forward(leaves, inputs), targets) / len(batch)
        gradient = gradient_of(loss, leaves)
        total = gradient if total is None else list(torch._foreach_add(total, gradient))
    if total is None:
        raise ValueError("a batch needs at least one micro-batch")
    return dict(zip(leaves, mean(total), strict=True))


def differentiable(theta: Parameters) -> dict[str, Tensor]:
    """Return θ as leaves that a gradient can be taken for; they share the tensors' memory."""
    return {name: value.detach().requires_grad_() for name, value in theta.items()}


def gradient_of(loss: Tensor, leaves: Parameters, create_graph: bool = False) -> list[Tensor]:
    """Differentiate a scalar by every leaf, in order; zero for a parameter that no exit uses.

    Args:
        loss: without dimensions.
        leaves: by name.
        create_graph: for the gradient to be differentiated in turn.
    """
    gradient = torch.autograd.grad(
        loss, list(leaves.values()), create_graph=create_graph, materialize_grads=True
    )
    return list(gradient)


def average(values: Iterable[Tensor]) -> Tensor:
    """Average equally shaped tensors."""
    return torch.stack(list(values)).mean(dim=0)
