"""The exported folder: ``model.json`` describes it; nothing is unpickled, and torch is not needed.

Whatever runs the network reads the description here, so that all runtimes refuse the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hdkd_dist.data.manifest import sha256_of
from hdkd_dist.inference.preprocessing import Preprocessing

if TYPE_CHECKING:
    from hdkd_dist.data.manifest import Manifest

FORMAT = 2
BEFORE = 1  # also read: without the ONNX files' sha256 and without what drift needs
DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
ONNX = "onnx"  # the folder of the stages' files
NETWORK = ("preset", "overrides", "factory", "kwargs", "input_size")  # what names a network
AGAIN = "export the run again with hdkd_dist/export.py"


@dataclass(frozen=True)
class Exported:
    """What is known about an exported network; :mod:`hdkd_dist.inference` has what runs it.

    Attributes:
        folder: where it lies.
        model: which network it is, as "hdkd.model" of a configuration has it: ``preset`` and
            ``overrides``, or ``factory``, ``kwargs`` and ``input_size``. Only torch needs it.
        classes: their names.
        preprocessing: of images.
        temperatures: [K], of the confidences that the thresholds are compared with.
        exits: one row per exit: ``mmac`` and accuracies.
        budgets: rows, cheapest first: ``budget_mmac``, ``thresholds``, ``val_shares``, ….
        validation: ``images``, and per exit the histogram of its confidences on all of them,
            ``histograms`` [K, 16].
        sha256: of the files in the folder that belong to this description, by their names in it.
    """

    folder: Path
    model: Mapping[str, Any]
    classes: Sequence[str]
    preprocessing: Preprocessing
    temperatures: Sequence[float]
    exits: Sequence[Mapping[str, Any]]
    budgets: Sequence[Mapping[str, Any]]
    validation: Mapping[str, Any]
    sha256: Mapping[str, str]

    @property
    def mmac(self) -> list[float]:
        """The cost of leaving at each exit, [K], in millions of multiply-adds."""
        return [row["mmac"] for row in self.exits]

    def stage_files(self) -> list[Path]:
        """Name the stages' ONNX files, whether they are there or not."""
        return [self.folder / ONNX / f"stage_{k + 1}.onnx" for k in range(len(self.exits))]

    def built_by(self, factory: str) -> Exported:
        """Describe the same network, built by another factory ("package.module:callable")."""
        arguments = self.model.get("kwargs") or self.model.get("overrides") or {}
        size = self.preprocessing.size
        return replace(self, model={"factory": factory, "kwargs": arguments, "input_size": size})

    def require_own(self, file: Path) -> None:
        """Refuse a file that is not the one which was exported with this description.

        Raises:
            ValueError: if it is missing, not listed, or another.
        """
        name = file.relative_to(self.folder).as_posix()
        if not file.is_file():
            raise ValueError(f"{self.folder} has no {name}: {AGAIN}")
        if name not in self.sha256:
            raise ValueError(f"{DESCRIPTION} does not list {name}: {AGAIN}")
        if sha256_of(file) != self.sha256[name]:
            raise ValueError(
                f"{DESCRIPTION} does not match {file} (its sha256 is another; the thresholds are "
                f"for the network of another run): {AGAIN}"
            )


def describe(
    config: Mapping[str, Any], results: Mapping[str, Any], manifest: Manifest, image_size: int
) -> dict[str, Any]:
    """Collect what ``model.json`` says, all but the files' sha256, from a run that is evaluated.

    Args:
        config: the run's.
        results: the run's, with ``budgeted``.
        manifest: of the data set that it was trained on.
        image_size: side of the network's input in pixels.

    Raises:
        KeyError, TypeError: if the results are damaged or of another version.
    """
    model = config["hdkd"]["model"]
    confidence = results["confidence"]
    return {
        "format": FORMAT,
        "method": results.get("method"),
        "dataset": manifest.name,
        **{name: model[name] for name in NETWORK if model.get(name) is not None},
        "classes": manifest.classes,
        "preprocessing": Preprocessing.of(manifest, image_size).as_json(),
        "confidence": confidence["kind"],
        "temperatures": confidence["temperatures"],
        "exits": results["exits"],
        "search": results["search"]["default"],
        "budgets": results["budgeted"],
        "validation": confidence["validation"],
    }


def write_description(folder: Path, description: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Write ``model.json``, which lists the sha256 of ``files`` in ``folder``."""
    sha256 = {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}
    text = json.dumps({**description, "sha256": sha256}, indent=1, allow_nan=False) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def load_exported(folder: str | Path) -> Exported:
    """Read and check the description of an exported folder.

    Raises:
        ValueError: for a folder or a description that is missing, damaged, or contradicts itself.
    """
    folder = Path(folder)
    file = folder / DESCRIPTION
    content = _read_description(file)
    try:
        exported = Exported(
            folder=folder,
            model={name: content[name] for name in NETWORK if name in content},
            classes=content["classes"],
            preprocessing=Preprocessing(**content["preprocessing"]),
            temperatures=content["temperatures"],
            exits=content["exits"],
            budgets=content["budgets"],
            validation=content["validation"],
            sha256=dict(content["sha256"]),
        )
        _check(exported)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        detail = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{file} describes no network ({detail}): {AGAIN}") from None
    return exported


def _read_description(file: Path) -> dict[str, Any]:
    if not file.parent.is_dir():
        raise ValueError(
            f"{file.parent} does not exist: give a folder that hdkd_dist/export.py has written"
        )
    try:
        if not file.is_file():
            raise ValueError("it is not there, or no file")
        text = file.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {file} ({error}): {AGAIN}") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found == BEFORE:
        return in_format_2(content)
    if found != FORMAT:
        known = f"{BEFORE} and {FORMAT}"
        raise ValueError(f"{file} has format {found!r}, this version reads {known}: {AGAIN}")
    return content


def in_format_2(content: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a description of format 1 up to date: it vouches for the weights alone."""
    return {
        **content,
        "sha256": {WEIGHTS: content.get("weights_sha256")},
        "validation": {"images": 0, "histograms": []},
    }


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check(exported: Exported) -> None:
    exits = len(exported.exits)
    if not exits or not exported.budgets:
        raise ValueError("its table of exits or of budgets is empty")
    if not ("preset" in exported.model or "factory" in exported.model):
        raise ValueError("it names neither a preset nor a factory")
    names = exported.classes
    if not names or len(set(names)) < len(names) or not all(isinstance(n, str) for n in names):
        raise ValueError("classes must be different names")
    rows = exported.budgets
    lists: dict[str, Sequence[Sequence[object]]] = {
        "temperatures": [exported.temperatures],
        "mmac": [exported.mmac],
        "thresholds": [row["thresholds"] for row in rows],
        "val_shares": [row["val_shares"] for row in rows],
        "histograms": list(zip(*exported.validation["histograms"], strict=True)),  # maybe none
    }
    for name, each in lists.items():
        for values in each:
            if len(values) != exits:
                raise ValueError(f"{name} are for {len(values)} exits, the network has {exits}")
            if not all(_is_finite(value) for value in values):
                raise ValueError(f"{name} are not numbers, or not finite: {list(values)}")
    if min(exported.temperatures) <= 0:
        raise ValueError(f"temperatures must be above 0, not {list(exported.temperatures)}")
    budgets = [row["budget_mmac"] for row in rows]
    for name, rising in (("mmac", exported.mmac), ("budget_mmac", budgets)):
        if not all(_is_finite(value) and value > 0 for value in rising) or rising != sorted(rising):
            raise ValueError(f"{name} must be above 0 and rise")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
