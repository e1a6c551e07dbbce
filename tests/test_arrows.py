"""The house's arrows: what each folder may import, so that all of them point one way."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hdkd_dist"
STANDARD = set(sys.stdlib_module_names)
# Folder → third-party packages, folders of the house; from the lowest floor to the highest.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "method": ({"torch"}, set()),
    "models": ({"torch"}, {"cli", "spelling"}),
    "files": ({"torch", "safetensors"}, set()),
    "data": ({"torch", "numpy", "PIL"}, {"files"}),
    "data/readers": ({"torch", "ffcv", "numba", "numpy", "PIL", "cv2"}, {"data"}),
    "data/preparing": (
        {"numpy", "PIL", "sklearn", "scipy", "tqdm", "cv2"},
        {"data", "files"},
    ),
    "config": ({"torch", "pydantic"}, {"method", "models", "data", "files", "spelling"}),
    "distributed": ({"torch"}, {"data"}),
    "runs": ({"torch", "safetensors", "matplotlib"}, {"models", "data", "files"}),
    "inference": (
        {"torch", "numpy", "safetensors", "PIL", "onnxruntime"},
        {"models", "data", "runs", "files", "cli"},
    ),
    "evaluation": (
        {"torch", "numpy", "matplotlib"},
        {"inference", "models", "data", "data/preparing", "data/readers", "runs", "files"},
    ),
    "training": (
        {"torch", "deepspeed", "wandb", "matplotlib", "tqdm", "safetensors"},
        {
            *{"training/checkpointing", "config", "distributed", "runs"},
            *{"method", "models", "data", "data/preparing", "data/readers", "files"},
        },
    ),
    "training/checkpointing": (
        {"torch", "deepspeed", "numpy", "pydantic"},
        {"training", "config", "distributed", "runs", "models", "data", "files"},
    ),
    "paper": (
        {"torch", "matplotlib", "numpy"},
        {"paper/judging", "evaluation", "config", "runs", "method", "models", "data", "files"},
    ),
    "paper/judging": ({"numpy", "scipy"}, {"paper", "method"}),
    "reporting": (
        {"plotly", "jinja2", "markupsafe", "pydantic", "wandb", "wandb_workspaces"},
        {"runs", "files", "method", "__version__", "cli"},
    ),
}


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folder_imports_only_what_it_may(folder):
    packages, house = MAY_IMPORT[folder]
    files = list((PACKAGE / folder).glob("*.py"))
    assert files
    for file in files:
        for name in imports_of(file):
            first, *rest = name.split(".")
            if first == "hdkd_dist":
                assert not rest or room_of(rest) in house | {folder}, f"{file.name} imports {name}"
            else:
                assert first in packages | STANDARD, f"{file.name} imports {name}"


def room_of(parts):
    """The folder of a module, or the module where it lies in the package's own folder."""
    path = PACKAGE
    room = parts[:1]
    for depth, part in enumerate(parts):
        path /= part
        if path.is_dir():
            room = parts[: depth + 1]
    return "/".join(room)


def test_every_folder_has_its_row_and_no_more_than_fourteen_modules():
    folders = {file.parent for file in PACKAGE.rglob("*.py")} - {PACKAGE}
    assert {folder.relative_to(PACKAGE).as_posix() for folder in folders} == MAY_IMPORT.keys()
    for folder in folders:
        modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
        assert len(modules) <= 14, folder


def test_inference_needs_no_training_packages():
    modules = [f"hdkd_dist.inference.{f.stem}" for f in (PACKAGE / "inference").glob("[a-z]*.py")]
    code = f"""
import importlib, sys
for name in ("deepspeed", "ffcv", "pydantic", "wandb", "numba", "sklearn"):
    sys.modules[name] = None  # any import of it now fails
for name in {modules!r}:
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_device_is_chosen_by_name():
    """Devices come from the engine; code may ask a device of what kind it is."""
    named = re.compile(r"\.cuda\(|(?<!== )[\"']cuda(:\d+)?[\"']")
    for file in PACKAGE.rglob("*.py"):
        assert not named.search(file.read_text()), file
