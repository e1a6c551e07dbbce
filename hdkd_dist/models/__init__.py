"""Networks with several exits, and what their exits cost; needs torch alone."""

from hdkd_dist.models.costs import ExitCosts, exit_costs
from hdkd_dist.models.factory import FactorySpec
from hdkd_dist.models.msdnet import MSDNetSpec
from hdkd_dist.models.network import (
    MultiExit,
    MultiExitNetwork,
    Staged,
    State,
    initialise,
    rescale_gradient,
    staged,
)
from hdkd_dist.models.presets import (
    PRESETS,
    build,
    build_from,
    network_name,
    register,
    resolve,
    spec_of,
)
from hdkd_dist.models.resnet import ResNetSpec
from hdkd_dist.models.vit import ViTSpec

__all__ = [
    "PRESETS",
    "ExitCosts",
    "FactorySpec",
    "MSDNetSpec",
    "MultiExit",
    "MultiExitNetwork",
    "ResNetSpec",
    "Staged",
    "State",
    "ViTSpec",
    "build",
    "build_from",
    "exit_costs",
    "initialise",
    "network_name",
    "register",
    "rescale_gradient",
    "resolve",
    "spec_of",
    "staged",
]
