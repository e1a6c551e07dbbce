"""The network of a finished run, without unpickling anything."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hdkd_dist.data.manifest import FILE_NAME, Manifest, read_alone, sha256_of
from hdkd_dist.files.strict_json import read_json_object
from hdkd_dist.files.tensors import read_tensors
from hdkd_dist.models import build_from, network_name, spec_of
from hdkd_dist.models.pretrained import public_weights, take_weights
from hdkd_dist.runs.folder import CONFIG, RESULTS, WEIGHTS
from hdkd_dist.runs.results import WeightsRecord, read_results
from hdkd_dist.runs.schema import first_fault


def read_run(folder: Path) -> Mapping[str, Any]:
    """Read the configuration that a run has left.

    Raises:
        ValueError: if the folder is not that of a run, or the file is damaged.
    """
    file = folder / CONFIG
    try:
        config = read_json_object(file)
        section = config["hdkd"]
        named = (section["data"]["path"], network_name(section["model"]))
        parts = [section["model"].get(key, {}) for key in ("overrides", "kwargs")]
        if not all(isinstance(each, str) for each in named) or not all(
            isinstance(each, dict) for each in parts
        ):
            raise TypeError("config.json names no network and data")
        return config
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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


def load_network(folder: Path, config: Mapping[str, Any], num_classes: int) -> nn.Module:
    """Load the trained network, in evaluation mode, on the CPU.

    Raises:
        ValueError: if the run is not finished, or its weights are those of another network.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}: the run is not finished")
    model = config["hdkd"]["model"]
    network = build_from(spec_of(model), num_classes)
    try:
        values = read_tensors(file)
        network.load_state_dict(values)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{file} does not hold the weights of {network_name(model)} with {num_classes} classes "
            f"({in_short(error)}): the file is damaged or of another network"
        ) from None
    check_weights(folder)
    if broken := next((name for name in values if not values[name].isfinite().all()), None):
        raise ValueError(f"{file} holds numbers that are not finite ({broken}): train again")
    return network.eval()


def check_weights(folder: Path) -> None:
    """Compare a finished run's weights, which could be read, with what its results note of them.

    Raises:
        ValueError: if they are others, or the results are damaged.
    """
    noted = read_results(folder)
    if first_fault(noted, Noted):  # of an earlier version, or without results
        return
    if sha256_of(folder / WEIGHTS) != noted["weights"]["sha256"]:
        raise ValueError(
            f"{folder / WEIGHTS} is not what the run has written (its sha256 differs from that in "
            f"{RESULTS}): copy the run again, or train again"
        )


class Noted(TypedDict):
    """What must be noted for a comparison."""

    weights: WeightsRecord


def start_from(network: nn.Module, source: Path) -> None:
    """Give ``network`` the weights of a finished run, or of a file, where names and shapes agree.

    What was taken is printed by the first rank.

    Args:
        network: changed in place.
        source: a run's folder, a .safetensors file, or a state_dict that ``torch.save`` has
            written; those of the public PyTorch MSDNet are renamed.

    Raises:
        ValueError: in one line, if there are no weights, or none fits.
    """
    taken = take_weights(network, read_weights(source))
    if not taken.names:
        raise ValueError(f"--init_from {source}: no tensor has a name and shape of this network")
    if os.environ.get("RANK", "0") in ("0", ""):
        print(f"starting from {source}:\n{taken.table()}", flush=True)


def read_weights(source: Path) -> dict[str, Tensor]:
    """Read parameters and buffers by name; nothing but tensors is unpickled.

    Args:
        source: see :func:`start_from`.

    Raises:
        ValueError: in one line, if there are none, or they are damaged.
    """
    file = source / WEIGHTS if source.is_dir() else source
    if not file.is_file():
        what = "is not the folder of a finished run" if source.is_dir() else "does not exist"
        raise ValueError(f"--init_from {source} {what}: give one, or a file of weights")
    try:
        if file.suffix == ".safetensors":
            weights = read_tensors(file)
        else:
            weights = public_weights(torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, SafetensorError, RuntimeError, UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(f"--init_from {file}: not readable weights ({in_short(error)})") from None
    if source.is_dir():
        check_weights(source)
    return weights


def in_short(error: Exception) -> str:
    """Shorten what torch says of weights: it names every tensor that does not fit."""
    return textwrap.shorten(str(error), 200, placeholder=" …")
