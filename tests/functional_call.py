"""One call of a network with other tensors, by the means that the γ step has."""

from collections.abc import Mapping

from torch import Tensor, nn

from hdkd_dist.method.functional import places_of, replaced


def call(network: nn.Module, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Run the network with ``tensors`` in the place of its own of these names."""
    with replaced(places_of(network), tensors):
        return network(images)
