"""Algorithm 1: γ learns from a step of θ that looks ahead, θ learns from γ·ℓ.

    algorithm = Algorithm(PlainEngine(network, optimizer), start_weights(initial, exists))
    for train_batch, metaval_batch in batches:
        algorithm.step(train_batch, metaval_batch, rate)

T of Algorithm 1 is 1, and both updates share the training batch ("the loss weights of the current
batch"). The two kinds of look-ahead differ in the step of θ by which γ is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hdkd_dist.method.engines import Engine
from hdkd_dist.method.functional import Copies, Prepare, buffers_read, forward_of, unchanged
from hdkd_dist.method.graphs import Graphs
from hdkd_dist.method.hypergradient import (
    Examples,
    Forward,
    Losses,
    Mean,
    Parameters,
    alone,
    hypergradient,
    look_ahead,
    mean_gradient,
    metaval_gradient,
)
from hdkd_dist.method.objective import anneal, confidence, cross_entropies, loss_vector
from hdkd_dist.method.recording import Recording, recorded, repeating
from hdkd_dist.method.state import LossWeights

Batch = Sequence[Examples]  # this rank's micro-batches of a step, all of one size
LookAhead = Literal["online", "lookahead"]


@dataclass(frozen=True)
class Seen:
    """What one step saw of its batch on this rank, on the device."""

    losses: Tensor  # ℓ, [n]
    correct: Tensor  # right predictions per exit, [K]


@dataclass(frozen=True)
class Algorithm:
    """Algorithm 1, one step at a time.

    Attributes:
        engine: moves θ.
        weights: γ, E_k and T, which move in place.
        lookahead: the step of θ that judges γ. ``lookahead`` is Eq. 8's: a plain gradient step that
            is then forgotten. ``online`` is the real optimiser step just taken; that must be SGD
            without clipping, and γ serves from the next step on.
        gradient_share: c, for ``online``: the optimiser's step is −cξ∇L_train plus what γ does not
            change. 1 for SGD with momentum, 1 + μ for Nesterov's.
        prepare: stored images → what the network sees.
        arguments: further arguments of the network's forward when it trains.
        losses: ℓ of logits [K, B, C], labels [B] and T.
        autocast: run γ's passes under this type's autocast, as the engine runs its own.
        casts_together: see :func:`~hdkd_dist.method.functional.forward_of`.
        scope: whose batch the hypergradient belongs to; ``local`` averages over ranks only at its
            end, which is an approximation.
        takes_over: whether the forward-mode pass takes over what the training pass has
            computed; needs a single micro-batch and passes of one precision.
        graphs: repeat the passes as CUDA graphs; None: the host starts each operation.
        mean: averages tensors over ranks.
    """

    engine: Engine
    weights: LossWeights
    lookahead: LookAhead = "lookahead"
    gradient_share: float = 1.0
    prepare: Prepare = unchanged
    arguments: Mapping[str, Any] = field(default_factory=dict)
    losses: Callable[[Tensor, Tensor, Tensor], Tensor] = loss_vector
    autocast: torch.dtype | None = None
    casts_together: bool = False
    scope: Literal["global", "local"] = "global"
    takes_over: bool = False
    graphs: Graphs | None = None
    mean: Mean = alone

    def step(self, train: Batch, metaval: Batch, rate: float) -> tuple[Seen, Tensor]:
        """Move γ and θ once.

        Args:
            train: trains θ; γ's derivative is taken on it.
            metaval: judges θ'.
            rate: ξ, the current learning rate.

        Returns:
            What θ's step saw, and the hypergradient [n], 0 for entries that the method does not
            have.
        """
        step = self.online_step if self.lookahead == "online" else self.lookahead_step
        return step(train, metaval, rate)

    def online_step(self, train: Batch, metaval: Batch, rate: float) -> tuple[Seen, Tensor]:
        """Take θ's real step on γ·ℓ; then let γ learn from where that led, for the next step."""
        losses, theta = self.losses_now(), self.theta  # at the T of this step
        before, record = self.copies.taken(theta), self.recording()
        seen = self.train_step(train, record)
        step_size = self.gradient_share * rate
        return seen, self.gamma_step(before, theta, losses, train, metaval, step_size, record)

    def lookahead_step(self, train: Batch, metaval: Batch, rate: float) -> tuple[Seen, Tensor]:
        """Let γ learn from one plain gradient step that is then forgotten; then θ from the new γ.

        The training batch is forwarded again for θ's own step, so that its graph need not outlive
        the validation pass.
        """
        losses, theta, record = self.losses_now(), self.theta, self.recording()
        ahead = look_ahead(
            recorded(self.replayed("look-ahead", self.training_pass), record),
            losses,
            theta,
            self.weights.gamma,
            train,
            step_size=rate,
            mean=self.mean_in_scope,
        )
        gradient = self.gamma_step(theta, ahead, losses, train, metaval, rate, record)
        return self.train_step(train), gradient

    def gamma_step(
        self,
        theta: Parameters,
        ahead: Parameters,
        losses: Losses,
        train: Batch,
        metaval: Batch,
        step_size: float,
        record: Recording | None = None,
    ) -> Tensor:
        """Move γ, and then E_k, judged by a step of θ on ``train`` (Eqs. 8 to 10).

        Args:
            theta: θ, by name.
            ahead: θ', by name.
            losses: ℓ at the T of that step.
            train: see :meth:`step`.
            metaval: see :meth:`step`.
            step_size: ξ in ∂θ'/∂γ_i = −ξ∇ℓ_i(θ).
            record: of the training batch's forward pass at θ.

        Returns:
            The hypergradient, [n], 0 for entries that the method does not have.
        """
        weights, mean = self.weights, self.mean_in_scope
        v, ce = metaval_gradient(
            self.validation_pass, cross_entropies, ahead, metaval, weights.meta, mean
        )
        gradient = hypergradient(
            self.derivative_pass(record), losses, theta, v, train, step_size=step_size, mean=mean
        )
        if self.scope == "local":
            gradient, ce = self.mean([gradient, ce])
        weights.step(gradient)
        if weights.constraint == "fixed_norm":
            self.keep_norm(theta, losses, train)
        if weights.meta.average_of == "train":
            ce = self.training_ce(theta, train)
        weights.meta.update(ce)
        return gradient * weights.exists

    def keep_norm(self, theta: Parameters, losses: Losses, train: Batch) -> None:
        """Rescale γ so that ‖∇L_train(θ, γ)‖ is what γ₀ gives: only proportions are learned."""
        weights = self.weights

        def norm(gamma: Tensor) -> Tensor:
            forward, mean = self.training_pass, self.mean_in_scope
            gradient = mean_gradient(forward, losses, theta, gamma, train, mean)
            return torch.stack(torch._foreach_norm(list(gradient.values()))).norm()

        weights.gamma.mul_(norm(weights.initial) / norm(weights.gamma))

    def training_ce(self, theta: Parameters, train: Batch) -> Tensor:
        """Give CE_k of the training batch at θ, [K]: what Eq. 9 averages in its other reading."""
        forward = self.training_pass
        with torch.no_grad():
            found = [cross_entropies(forward(theta, x), y) for x, y in train]
        return self.mean([torch.stack(found).mean(dim=0)])[0]

    def train_step(self, batch: Batch, record: Recording | None = None) -> Seen:
        """Move θ once on L_train = γ·ℓ (Eq. 5), accumulated over this rank's micro-batches.

        Args:
            batch: this rank's micro-batches.
            record: keeps of the only one's forward pass what the forward-mode pass can use.
        """
        weights, losses = self.weights, self.losses_now()
        logits, values = [], []
        if record is None and self.graphs is not None and weights.learns:
            record = self.recording()  # steps with and without γ's repeat one graph, which keeps it
        for images, labels in batch:
            # A recording slows down all it sees: the forward pass alone.
            with record or nullcontext(), self.captured_training:
                z = self.engine(self.prepare(images), **self.arguments)
            entries = losses(z, labels)
            self.engine.backward(weights.gamma @ entries)
            self.engine.step()
            logits.append(z.detach())
            values.append(entries.detach())
        if weights.annealing:
            seen = torch.stack([confidence(z, weights.temperature) for z in logits]).mean()
            weights.temperature = anneal(weights.temperature, self.mean([seen])[0])
        correct = [
            (z.argmax(dim=-1) == labels).sum(dim=1)
            for z, (_, labels) in zip(logits, batch, strict=True)
        ]
        return Seen(torch.stack(values).mean(dim=0), torch.stack(correct).sum(dim=0))

    @cached_property
    def theta(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name; frozen ones take no part in Eq. 8 either."""
        named = self.engine.module.named_parameters()
        return {name: value for name, value in named if value.requires_grad}

    def losses_now(self) -> Losses:
        """Return ℓ at the present T, as a function of logits [K, B, C] and labels [B]."""
        temperature = self.weights.temperature

        def losses(logits: Tensor, labels: Tensor) -> Tensor:
            return self.losses(logits, labels, temperature)

        return losses

    @cached_property
    def training_pass(self) -> Forward:
        """The network as the training step runs it: (θ, images) → logits [K, B, C]."""
        return self.pass_with(**self.arguments)

    @cached_property
    def validation_pass(self) -> Forward:
        """The network as it is, in training mode: (θ, images) → logits [K, B, C]."""
        return self.replayed("validation", self.pass_with())

    def derivative_pass(self, record: Recording | None) -> Forward:
        """Return the training pass that is differentiated in forward mode."""
        forward = repeating(self.training_pass, record)
        return self.replayed("derivative", forward, ready=record is None or record.lasts)

    @property
    def captured_training(self) -> AbstractContextManager[None]:
        """A context in which the engine's passes become a CUDA graph, where that is wanted."""
        if self.graphs is None:
            return nullcontext()
        return self.graphs.training(self.engine.module, self.theta)

    def replayed(self, name: str, forward: Forward, ready: bool = True) -> Forward:
        """Return the pass that becomes a CUDA graph, where that is wanted."""
        return forward if self.graphs is None else self.graphs.replayed(name, forward, ready)

    def pass_with(self, **arguments: Any) -> Forward:
        """Return the network in training mode as a function of θ, with arguments of its forward."""
        return forward_of(
            self.engine.module,
            self.prepare,
            autocast=self.autocast,
            casts_together=self.casts_together,
            **arguments,
        )

    @property
    def mean_in_scope(self) -> Mean:
        """Over ranks; for scope ``local`` over this one alone, until γ's entries are averaged."""
        return self.mean if self.scope == "global" else alone

    @cached_property
    def copies(self) -> Copies:
        """Hold θ as it was before the step."""
        return Copies()

    def recording(self) -> Recording | None:
        """Begin a record of what the forward-mode pass can use of a training pass."""
        if not self.takes_over:
            return None
        network = self.engine.module
        return Recording(buffers_read(network).items() if self.reads_buffers else ())

    @cached_property
    def reads_buffers(self) -> bool:
        """Whether a pass in training mode reads buffers: looked for once, for it takes a while."""
        return bool(buffers_read(self.engine.module))
