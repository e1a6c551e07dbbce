"""Networks with several exits, and what their exits cost; needs torch alone."""

from hdkd_dist.models.costs import ExitCosts, exit_costs
from hdkd_dist.models.msdnet import MSDNetSpec
from hdkd_dist.models.network import MultiExitNetwork, State, initialise, rescale_gradient
from hdkd_dist.models.presets import PRESETS, build, resolve
from hdkd_dist.models.resnet import ResNetSpec

__all__ = [
    "PRESETS",
    "ExitCosts",
    "MSDNetSpec",
    "MultiExitNetwork",
    "ResNetSpec",
    "State",
    "build",
    "exit_costs",
    "initialise",
    "rescale_gradient",
    "resolve",
]
