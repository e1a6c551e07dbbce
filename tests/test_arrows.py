"""The house's arrows: entry points → training → method, models, data."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hdkd_dist"
STANDARD = set(sys.stdlib_module_names)
MAY_IMPORT = {  # folder → third-party packages, folders of the house
    "method": ({"torch"}, {"method"}),
    "models": ({"torch"}, {"models", "cli"}),
    "data": (
        {"torch", "ffcv", "numba", "numpy", "PIL", "sklearn", "tqdm", "cv2"},
        {"data"},
    ),
    "inference": (
        {"torch", "numpy", "safetensors", "PIL", "matplotlib", "onnxruntime"},
        {"inference", "method", "models", "data"},
    ),
    "training": (
        {
            *{"torch", "numpy", "deepspeed", "wandb", "pydantic", "matplotlib", "tqdm"},
            *{"safetensors", "wandb_workspaces"},
        },
        {"training", "method", "models", "data", "inference", "cli"},
    ),
    "paper": (
        {"torch", "matplotlib", "numpy", "scipy"},
        {"paper", "training", "method", "models", "data", "inference"},
    ),
    "reporting": (
        {"plotly", "jinja2", "markupsafe", "pydantic"},
        {"reporting", "training", "method", "inference", "__version__"},
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
                assert not rest or rest[0] in house, f"{file.name} imports {name}"
            else:
                assert first in packages | STANDARD, f"{file.name} imports {name}"


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


def test_no_device_is_named():
    named = re.compile(r"\.cuda\(|[\"']cuda(:\d+)?[\"']")
    files = {file.name for file in PACKAGE.rglob("*.py") if named.search(file.read_text())}
    assert files == {"memory.py"}  # which asks an accelerator how much it has used
