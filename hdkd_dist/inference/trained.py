"""The network of a finished run, without unpickling anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from hdkd_dist.models import MultiExitNetwork, build

WEIGHTS = Path("checkpoints", "final", "model.safetensors")  # in a run's folder


def read_run(folder: Path) -> Mapping[str, Any]:
    """The configuration that a run has left.

    Raises:
        ValueError: if the folder is not that of a run.
    """
    file = folder / "config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} is not the folder of a run ({error}): name one that train.py has written"
        ) from None


def load_network(folder: Path, config: Mapping[str, Any], num_classes: int) -> MultiExitNetwork:
    """The trained network in evaluation mode, on the CPU.

    Raises:
        ValueError: if the run is not finished, or its weights are those of another network.
    """
    file = folder / WEIGHTS
    if not file.exists():
        raise ValueError(f"{folder} has no {WEIGHTS}: the run is not finished")
    model = config["hdkd"]["model"]
    network = build(model["preset"], num_classes, **model["overrides"])
    try:
        network.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise ValueError(
            f"{file} does not hold the weights of {model['preset']} with {num_classes} classes "
            f"({cause}): the file is damaged or of another network"
        ) from None
    return network.eval()
