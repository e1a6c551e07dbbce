"""The exported folder: weights as safetensors, everything else as JSON; nothing is unpickled."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from hdkd_dist.data.manifest import Manifest, sha256_of
from hdkd_dist.inference.preprocessing import Preprocessing
from hdkd_dist.models import MultiExitNetwork, build, resolve
from hdkd_dist.runs.network import WEIGHTS as TRAINED
from hdkd_dist.runs.network import in_short
from hdkd_dist.runs.results import FILE_NAME, read_results

FORMAT = 1
DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
AGAIN = "export the run again with hdkd_dist/export.py"


@dataclass(frozen=True)
class Exported:
    """A network that can be used.

    Attributes:
        network: in evaluation mode, on the CPU.
        classes: their names.
        preprocessing: of image files.
        temperatures: [K], of the confidences that the thresholds are compared with.
        exits: one row per exit: ``mmac`` and accuracies.
        budgets: rows, cheapest first: ``budget_mmac``, ``thresholds``, ``val_shares``, ….
    """

    network: MultiExitNetwork
    classes: Sequence[str]
    preprocessing: Preprocessing
    temperatures: Sequence[float]
    exits: Sequence[Mapping[str, Any]]
    budgets: Sequence[Mapping[str, Any]]


def write_exported(run: Path, config: Mapping[str, Any], manifest: Manifest, folder: Path) -> None:
    """Write weights and description of an evaluated run into ``folder``, which exists.

    Raises:
        ValueError: if the run has not been evaluated.
    """
    results = read_results(run)
    if "budgeted" not in results:
        raise ValueError(
            f"{run} has no thresholds yet: run hdkd_dist/evaluate.py --run {run} first"
        )
    shutil.copyfile(run / TRAINED, folder / WEIGHTS)
    try:
        description = _describe(config, results, manifest)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{run / FILE_NAME} is damaged or of another version ({error}): run "
            f"hdkd_dist/evaluate.py --run {run} again"
        ) from None
    description["weights_sha256"] = sha256_of(folder / WEIGHTS)
    text = json.dumps(description, indent=1) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def _describe(
    config: Mapping[str, Any], results: Mapping[str, Any], manifest: Manifest
) -> dict[str, Any]:
    model = config["hdkd"]["model"]
    size = resolve(model["preset"], model["overrides"]).input_size
    return {
        "format": FORMAT,
        "method": results.get("method"),
        "dataset": manifest.name,
        "preset": model["preset"],
        "overrides": model["overrides"],
        "classes": manifest.classes,
        "preprocessing": Preprocessing.of(manifest, size).as_json(),
        "confidence": results["confidence"]["kind"],
        "temperatures": results["confidence"]["temperatures"],
        "exits": results["exits"],
        "search": results["search"]["default"],
        "budgets": results["budgeted"],
    }


def load_exported(folder: Path) -> Exported:
    """Load an exported folder and check that its parts belong together.

    Raises:
        ValueError: for a folder, a description or weights that are missing, damaged, or do not fit
            each other.
    """
    content = _read_description(folder / DESCRIPTION)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}: {AGAIN}")
    try:
        network = build(content["preset"], len(content["classes"]), **content["overrides"])
        exported = Exported(
            network=network,
            classes=content["classes"],
            preprocessing=Preprocessing(**content["preprocessing"]),
            temperatures=content["temperatures"],
            exits=content["exits"],
            budgets=content["budgets"],
        )
        _check_tables(exported)
        exported.preprocessing.normalize("cpu")
        expected = content["weights_sha256"]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{folder / DESCRIPTION} describes no network ({detail}): {AGAIN}"
        ) from None
    try:
        network.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(
            f"{DESCRIPTION} does not match the weights in {weights} ({in_short(error)}): {AGAIN}"
        ) from None
    if sha256_of(weights) != expected:
        raise ValueError(
            f"{DESCRIPTION} does not match the weights in {weights} (their sha256 is another; "
            f"the thresholds are for those of another run): {AGAIN}"
        )
    network.eval()
    return exported


def _read_description(file: Path) -> dict[str, Any]:
    if not file.parent.is_dir():
        raise ValueError(
            f"{file.parent} does not exist: give a folder that hdkd_dist/export.py has written"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {file} ({error}): {AGAIN}") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{file} has format {found!r}, this version reads {FORMAT}: {AGAIN}")
    return content


def _check_tables(exported: Exported) -> None:
    exits = exported.network.num_exits
    tables = {
        "temperatures": [exported.temperatures],
        "exits": [[row["mmac"] for row in exported.exits]],
        "thresholds": [row["thresholds"] for row in exported.budgets],
        "val_shares": [row["val_shares"] for row in exported.budgets],
    }
    for name, lists in tables.items():
        for values in lists:
            if len(values) != exits:
                raise ValueError(f"{name} are for {len(values)} exits, the network has {exits}")
            if not all(isinstance(value, int | float) for value in values):
                raise ValueError(f"{name} are not numbers")
    if not exported.budgets:
        raise ValueError("its table of budgets is empty")
