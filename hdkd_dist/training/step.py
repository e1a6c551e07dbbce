"""A step of Algorithm 1: γ learns from a step of θ that looks ahead, θ from γ·ℓ."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hdkd_dist.method.hypergradient import gradient_of, gradient_step, look_ahead
from hdkd_dist.method.objective import loss_vector
from hdkd_dist.training.learner import Batch, Learner
from hdkd_dist.training.network_step import (
    Measures,
    backward_pass,
    finish_step,
    forward_pass,
    outputs_before_engine,
    train_network,
)
from hdkd_dist.training.weights_step import Look, learn_weights, local_or_global, recording

HarmonisedStep = Callable[[Learner, Batch, Batch, float], tuple[Measures, Tensor]]


def online_step(
    learner: Learner, train_batch: Batch, metaval_batch: Batch, rate: float
) -> tuple[Measures, Tensor]:
    """θ learns from γ; then γ from that real step, for the next one.

    Args:
        learner: γ and θ move.
        train_batch: trains θ; γ's derivative is taken on it.
        metaval_batch: judges θ'.
        rate: ξ, the current learning rate.

    Returns:
        What θ's step saw, and the hypergradient [n], 0 for entries that the method does not have.
    """
    before = {name: value.detach().clone() for name, value in learner.parameters.items()}
    temperature = learner.harmony.temperature
    with recording(learner) as record:
        measures = train_network(learner, train_batch)
    looked = Look(before, learner.parameters, rate * learner.gradient_share, temperature, record)
    return measures, learn_weights(learner, looked, train_batch, metaval_batch)


def lookahead_step(
    learner: Learner, train_batch: Batch, metaval_batch: Batch, rate: float
) -> tuple[Measures, Tensor]:
    """γ learns from one plain gradient step that is then forgotten (Eq. 8); then θ from the new γ.

    As :func:`online_step`. The training batch is forwarded again for θ's own step, so that its
    graph need not outlive the validation pass.
    """
    harmony, parameters = learner.harmony, learner.parameters
    with recording(learner) as record:
        ahead = look_ahead(
            learner.passes.look_ahead,
            parameters,
            harmony.gamma,
            train_batch,
            step_size=rate,
            temperature=harmony.temperature,
            mean=local_or_global(learner),
        )
    looked = Look(parameters, ahead, rate, harmony.temperature, record)
    gradient = learn_weights(learner, looked, train_batch, metaval_batch)
    return train_network(learner, train_batch), gradient


def keep_graph_step(
    learner: Learner, train_batch: Batch, metaval_batch: Batch, rate: float
) -> tuple[Measures, Tensor]:
    """As :func:`lookahead_step`, but one graph of the training batch serves both backward passes.

    It takes the memory of two graphs during the validation pass, and a single micro-batch.
    """
    harmony, parameters = learner.harmony, learner.parameters
    (example,) = train_batch
    with recording(learner) as record, outputs_before_engine(learner.engine) as outputs:
        passed = forward_pass(learner, example)
    losses = loss_vector(outputs[0], example[1], harmony.temperature)
    gradient = gradient_of(harmony.gamma @ losses, parameters, retain_graph=True)
    mean_gradient = local_or_global(learner)(gradient)
    ahead = gradient_step(parameters, dict(zip(parameters, mean_gradient, strict=True)), rate)
    looked = Look(parameters, ahead, rate, harmony.temperature, record)
    gradient = learn_weights(learner, looked, train_batch, metaval_batch)
    backward_pass(learner, passed)
    return finish_step(learner, [passed]), gradient


LOOK_AHEADS: dict[str, HarmonisedStep] = {
    "online": online_step,
    "lookahead": lookahead_step,
    "lookahead_keep_graph": keep_graph_step,
}
