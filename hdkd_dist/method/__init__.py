"""The paper in pure torch: objective, weights γ, meta-objective, hypergradient.

What a training loop of one's own needs can be imported from here; ``examples/`` shows how. The
functions of Eq. 8, for losses of any kind, are in :mod:`hdkd_dist.method.hypergradient`.
"""

from hdkd_dist.method.algorithm import Algorithm, Seen
from hdkd_dist.method.engines import PlainEngine
from hdkd_dist.method.functional import forward_of
from hdkd_dist.method.meta_objective import MetaObjective
from hdkd_dist.method.objective import LossLayout, cross_entropies, loss_vector, with_terms
from hdkd_dist.method.state import LossWeights, start_weights
from hdkd_dist.method.weights import METHODS, TEACHERS, Method, ds_like, existing_entries

__all__ = [
    "METHODS",
    "TEACHERS",
    "Algorithm",
    "LossLayout",
    "LossWeights",
    "MetaObjective",
    "Method",
    "PlainEngine",
    "Seen",
    "cross_entropies",
    "ds_like",
    "existing_entries",
    "forward_of",
    "loss_vector",
    "start_weights",
    "with_terms",
]
