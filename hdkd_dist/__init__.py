"""Distributed training of multi-exit networks with Harmonized Dense Knowledge Distillation.

The names of ``__all__`` are the public interface. Each is imported when it is first used, so that
``import hdkd_dist`` takes no time and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdkd_dist.inference.exported import load_exported
    from hdkd_dist.method.algorithm import Algorithm
    from hdkd_dist.method.state import LossWeights
    from hdkd_dist.method.weights import METHODS
    from hdkd_dist.models.presets import build, register

__version__ = "0.2.0"
__all__ = ["METHODS", "Algorithm", "LossWeights", "build", "load_exported", "register"]

_MODULES = {
    "METHODS": "hdkd_dist.method.weights",
    "Algorithm": "hdkd_dist.method.algorithm",
    "LossWeights": "hdkd_dist.method.state",
    "build": "hdkd_dist.models.presets",
    "load_exported": "hdkd_dist.inference.exported",
    "register": "hdkd_dist.models.presets",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """List the module's own names and those that are imported on use."""
    return sorted({*globals(), *__all__})
