"""Networks with several exits, and what their exits cost; needs torch alone."""

from .costs import ExitCosts, exit_costs
from .msdnet import MSDNetSpec
from .network import MultiExitNetwork, State, initialise, rescale_gradient
from .presets import PRESETS, build, resolve
from .resnet import ResNetSpec

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
