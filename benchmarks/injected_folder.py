"""A folder with one of everything that the commands read, in order, for inject.py."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from chain_of_starts import CONFIG
from local_ranks import ROOT
from PIL import Image

DATA_SCRIPTS = ("digits", "cifar100", "arrays", "imagefolder")


def load_script(name: str) -> ModuleType:
    """Import a script of ``data_prep/``."""
    spec = importlib.util.spec_from_file_location(f"prep_{name}", ROOT / f"data_prep/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_folder(base: Path) -> None:
    """Prepare digits, train an epoch, evaluate, export; make up the sources of other data sets."""
    base.mkdir(parents=True)
    config = json.loads(json.dumps(CONFIG))
    config["hdkd"]["schedule"] |= {"epochs": 1, "milestones": []}
    config["hdkd"]["run"] |= {"out": "run", "test": True}
    config["hdkd"]["checkpoint"] = {"keep": 1}
    (base / "config.json").write_text(json.dumps(config))
    for words in (
        "train --ds_config config.json",
        "evaluate --run run",
        "export --run run --out exported",
    ):
        start(words, base)
    checkpoints = sorted((base / "run/checkpoints").glob("step-*"))
    for other in checkpoints[:-1]:
        shutil.rmtree(other)
    build_sources(base)


def start(words: str, folder: Path) -> None:
    """Run a command and see that it succeeds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    name, *rest = words.split()
    command = [sys.executable, str(ROOT / f"hdkd_dist/{name}.py"), *rest]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def build_sources(base: Path) -> None:
    """Images, arrays, CIFAR's pickles, a folder of pictures, and collected results."""
    chance = np.random.default_rng(0)

    def image(side: int) -> Image.Image:
        return Image.fromarray(chance.integers(0, 256, (side, side, 3), np.uint8))

    (base / "images").mkdir()
    for name in ("0.png", "1.jpg", "2.png"):
        image(16).save(base / "images" / name)
    labels = np.repeat(np.arange(3), 70)
    pixels = chance.integers(0, 256, (len(labels), 16, 16, 3), np.uint8)
    np.savez(base / "arrays.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    cifar = base / "cifar-100-python"
    cifar.mkdir()
    for name, per_class in (("train", 10), ("test", 3)):
        labels = np.repeat(np.arange(4), per_class)
        rows = chance.integers(0, 256, (len(labels), 3 * 32 * 32), np.uint8)
        content = {
            b"data": rows,
            b"fine_labels": labels.tolist(),
            b"coarse_labels": [0] * len(labels),
            b"filenames": [b"x.png"] * len(labels),
        }
        (cifar / name).write_bytes(pickle.dumps(content))
    names = {b"fine_label_names": [b"apple", b"bear", b"cup", b"dog"]}
    (cifar / "meta").write_bytes(pickle.dumps(names))
    for name in ("n01", "n02", "n03"):
        for part, count in (("train", 9), ("val", 2)):
            for number in range(count):
                file = base / "pictures" / part / name / f"{name}_{part}_{number}.JPEG"
                file.parent.mkdir(parents=True, exist_ok=True)
                image(40).save(file)
    shutil.copytree(ROOT / "docs/results", base / "results")
