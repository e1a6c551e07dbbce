"""The network of a finished run, without unpickling anything."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from hdkd_dist.data.manifest import FILE_NAME, Manifest, read_alone
from hdkd_dist.models import MultiExitNetwork, build
from hdkd_dist.runs.folder import CONFIG, WEIGHTS


def read_run(folder: Path) -> Mapping[str, Any]:
    """Read the configuration that a run has left.

    Raises:
        ValueError: if the folder is not that of a run, or the file is damaged.
    """
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        section = config["hdkd"]
        words = (section["data"]["path"], section["model"]["preset"])
        if not all(isinstance(each, str) for each in words) or not isinstance(
            section["model"]["overrides"], dict
        ):
            raise TypeError("config.json names no network and data")
        return config
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = f"config.json lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{folder} is not the folder of a run ({detail}): name one that train.py has written"
        ) from None


def trained_on(folder: Path) -> Manifest | None:
    """Read which data set a run was trained on, as it has noted it; None without a note.

    Raises:
        ValueError: if the note is damaged.
    """
    return read_alone(folder) if (folder / FILE_NAME).exists() else None


def load_network(folder: Path, config: Mapping[str, Any], num_classes: int) -> MultiExitNetwork:
    """Load the trained network in evaluation mode, on the CPU.

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
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{file} does not hold the weights of {model['preset']} with {num_classes} classes "
            f"({in_short(error)}): the file is damaged or of another network"
        ) from None
    return network.eval()


def in_short(error: Exception) -> str:
    """Shorten what torch says of weights: it names every tensor that does not fit."""
    return textwrap.shorten(str(error), 200, placeholder=" …")
