"""Answers for images, under a budget: an exported folder in, classes out."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from hdkd_dist.inference import policy
from hdkd_dist.inference.exported import Exported, load_exported
from hdkd_dist.inference.latency import StageTimes, measure_stages, sizes_up_to
from hdkd_dist.inference.runtime import EarlyExitRunner, Stages

Source = str | Path | Image.Image | np.ndarray
"""One image: a file, a Pillow image, or RGB pixels [H, W, 3] uint8."""

Images = Source | Sequence[Source]
"""Or several: a folder, a list, or pixels [B, H, W, 3] uint8."""


@dataclass(frozen=True)
class Answer:
    """What the network says of one image.

    Attributes:
        image: the file, or the position among the images given.
        name: of the class.
        index: of the class.
        confidence: in 0..1.
        exit: where the image left; 1 is the first.
    """

    image: str | int
    name: str
    index: int
    confidence: float
    exit: int

    def as_json(self) -> dict[str, Any]:
        """Give the line that predict.py prints."""
        return {
            "image": self.image,
            "class": self.name,
            "index": self.index,
            "confidence": round(self.confidence, 6),
            "exit": self.exit,
        }


@dataclass(frozen=True)
class Skipped:
    """A file that cannot be read as an image, and why."""

    image: str | int
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Give the line that predict.py prints."""
        return {"image": self.image, "skipped": self.reason}


@dataclass(frozen=True)
class Batch:
    """What came of some images, in their order, and the seconds that the network took."""

    results: Sequence[Answer | Skipped]
    seconds: float

    @property
    def exits(self) -> list[int]:
        """The exits of those that were answered, 1-based."""
        return [each.exit for each in self.results if isinstance(each, Answer)]


def onnx_stages(exported: Exported, threads: int | None, providers: Sequence[str]) -> Stages:
    """Load the stages in onnxruntime."""
    from hdkd_dist.inference.onnx_stages import CPU, OnnxStages

    return OnnxStages(exported, threads, providers or [CPU])


def torch_stages(exported: Exported, threads: int | None, providers: Sequence[str]) -> Stages:
    """Load the stages in torch, on its accelerator if there is one."""
    import torch

    from hdkd_dist.inference.torch_stages import TorchStages, fold_where_equal, load_network

    if providers:
        raise ValueError("providers are onnxruntime's: the torch runtime has none")
    if threads:
        torch.set_num_threads(threads)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    network = load_network(exported).to(device)
    return TorchStages(fold_where_equal(network, exported.preprocessing.size))


@dataclass(frozen=True)
class Runtime:
    """A package that can run the stages, and the loader that does it."""

    package: str
    load: Callable[[Exported, int | None, Sequence[str]], Stages]


RUNTIMES = {"onnx": Runtime("onnxruntime", onnx_stages), "torch": Runtime("torch", torch_stages)}
"""The fastest on a CPU first."""


class Predictor:
    """Classifies images with early exit.

    ``Predictor("exported", budget_mmac=20)("images/")``

    Args:
        model: the folder that export.py has written.
        budget_mmac: mean multiply-adds per image, in millions.
        deadline_ms: mean milliseconds per image of the network, as its stages are measured now, on
            this machine, in this runtime and for this ``batch``.
        exit: all images leave at this exit; 1 is the first. Give exactly one of these three.
        runtime: a key of ``RUNTIMES``; default the first that is installed and has its files.
        threads: of the runtime; default one per core for onnxruntime, torch's own for torch, where
            the number is the whole process's.
        providers: onnxruntime's execution providers by name, default the CPU's.
        batch: images at a time.
        factory: "package.module:callable" that builds the network, instead of the one that the
            folder names; for the torch runtime.

    Raises:
        ValueError: for a folder that is damaged, a request that cannot be met, or a runtime that is
            not installed.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        budget_mmac: float | None = None,
        deadline_ms: float | None = None,
        exit: int | None = None,
        runtime: str | None = None,
        threads: int | None = None,
        providers: Sequence[str] = (),
        batch: int = 32,
        factory: str | None = None,
    ) -> None:
        given = {"budget_mmac": budget_mmac, "deadline_ms": deadline_ms, "exit": exit}
        if sum(value is not None for value in given.values()) != 1:
            raise ValueError(f"give exactly one of {', '.join(given)}")
        for name, value in given.items():
            _require_number(name, value)
        for name, value in {"batch": batch, "threads": threads}.items():
            _require_whole(name, value)
        self.batch = int(batch)
        self.exported = load_exported(model)
        if factory is not None:
            self.exported = self.exported.built_by(factory)
            runtime = runtime or "torch"
        self.runtime = runtime or find_runtime(self.exported)
        if factory is not None and self.runtime != "torch":
            raise ValueError(f"the runtime {self.runtime} needs no factory: give it to torch")
        require_runtime(self.runtime)
        load = RUNTIMES[self.runtime].load
        self.stages = load(self.exported, threads, providers)
        self.batch = min(self.batch, self.stages.at_a_time or self.batch)
        if budget_mmac is not None:
            self.thresholds = policy.for_budget(self.exported, budget_mmac)
        elif deadline_ms is not None:
            times = self.measure()
            self.thresholds = policy.for_deadline(self.exported, deadline_ms, times, self.batch)
        elif exit is not None:
            self.thresholds = policy.for_exit(self.exported, exit)
        self.runner = EarlyExitRunner(self.stages, self.thresholds, self.exported.temperatures)

    def __call__(self, images: Images) -> list[Answer | Skipped]:
        """Answer for images, in their order; for one that cannot be read there is a ``Skipped``.

        Args:
            images: a folder (searched with its subfolders) or a file, by its path; an array
                [H, W, 3] or [B, H, W, 3] uint8, RGB; a Pillow image; or a list of such.

        Raises:
            ValueError: for a path that does not exist or an empty folder, arrays of another form,
                or outputs of the network that are not finite.
        """
        return [each for batch in self.batches(images) for each in batch.results]

    def batches(self, images: Images) -> Iterator[Batch]:
        """Answer batch by batch; arguments and errors are those of a call."""
        named = iter(_name(images))
        while chunk := list(itertools.islice(named, self.batch)):
            yield self._answer(chunk)

    def measure(self) -> StageTimes:
        """Time the stages for batches up to this predictor's."""
        return measure_stages(
            self.stages, self.exported.preprocessing.size, sizes_up_to(self.batch)
        )

    def _answer(self, chunk: Sequence[tuple[str | int, Source]]) -> Batch:
        results: dict[str | int, Answer | Skipped] = {}
        readable, pixels = [], []
        for place, (name, source) in enumerate(chunk):
            read = self._read(source)
            if isinstance(read, str):
                results[place] = Skipped(name, read)
            else:
                readable.append((place, name))
                pixels.append(read)
        if not readable:
            return Batch([results[place] for place in range(len(chunk))], 0.0)
        start = time.perf_counter()
        answers = self.runner(self.exported.preprocessing.normalize(np.stack(pixels)))
        seconds = time.perf_counter() - start
        for (place, name), index, exit, confidence in zip(readable, *answers, strict=True):
            label = self.exported.classes[index]
            results[place] = Answer(name, label, int(index), float(confidence), int(exit))
        return Batch([results[place] for place in range(len(chunk))], seconds)

    def _read(self, source: Source) -> np.ndarray | str:
        """Prepare pixels [size, size, 3] uint8, or say why there are none."""
        preprocessing = self.exported.preprocessing
        if isinstance(source, np.ndarray):
            return preprocessing.of_pixels(source)
        try:
            if isinstance(source, Image.Image):
                return preprocessing.of_image(source)
            return preprocessing.of_file(_content(Path(source)))
        except UnidentifiedImageError:  # its own text names no file
            return "not an image"
        except Exception as error:  # Pillow raises nearly anything on bad data
            return f"cannot be decoded: {error}"


def find_runtime(exported: Exported) -> str:
    """Choose the first runtime that is installed and has its files.

    Raises:
        ValueError: if there is none.
    """
    files = {file: file.relative_to(exported.folder).as_posix() for file in exported.stage_files()}
    has_onnx = all(file.is_file() and name in exported.sha256 for file, name in files.items())
    for name, runtime in RUNTIMES.items():
        if importlib.util.find_spec(runtime.package) and (name != "onnx" or has_onnx):
            return name
    wanted = "onnxruntime" if has_onnx else "torch and safetensors"
    raise ValueError(f"{exported.folder} needs {wanted}: pip install {wanted.replace(' and', '')}")


def require_runtime(name: str) -> None:
    """Refuse a runtime that is unknown or not installed."""
    if name not in RUNTIMES:
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, not {name!r}")
    package = RUNTIMES[name].package
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"the runtime {name} needs {package}: pip install {package}")


def files_in(images: Path) -> list[Path]:
    """List all files below a folder that are not hidden, by name; or the one file.

    Links to folders are followed; a folder that is reached in several ways is read once.

    Raises:
        ValueError: if there is none.
    """
    if not images.exists():
        raise ValueError(f"{images} does not exist: give a folder of images")
    if not images.is_dir():
        return [images]
    files: list[Path] = []
    seen = {images.resolve(), *images.resolve().parents}  # a link upwards would list itself
    for folder, inner, names in os.walk(images, followlinks=True):
        here = Path(folder)
        files += (here / name for name in names if not name.startswith("."))  # dead links, too
        visible = sorted((name for name in inner if not name.startswith(".")), reverse=True)
        below = {(here / name).resolve(): name for name in visible}  # the first of equal ones
        inner[:] = [below[real] for real in below.keys() - seen]
        seen |= below.keys()
    if not files:
        raise ValueError(f"{images} is empty: give a folder of images")
    return sorted(files)


def _name(images: Images) -> Iterable[tuple[str | int, Source]]:
    """Pair every image with its file's name or its position."""
    if isinstance(images, str | Path):
        return ((str(file), file) for file in files_in(Path(images)))
    if isinstance(images, Image.Image):
        return [(0, images)]
    if isinstance(images, np.ndarray):
        return enumerate(images if images.ndim == 4 else [images], 0) if _pixels(images) else []
    for each in images:
        if isinstance(each, np.ndarray) and _pixels(each) and each.ndim != 3:
            raise ValueError("a list holds single images: pixels [H, W, 3] uint8")
    return (
        (str(each) if isinstance(each, str | Path) else place, each)
        for place, each in enumerate(images)
    )


def _pixels(array: np.ndarray) -> bool:
    """Check that an array holds RGB images; whether there is one."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise ValueError(
            f"pixels must be [H, W, 3] or [B, H, W, 3] uint8, RGB, not {list(array.shape)} "
            f"{array.dtype}"
        )
    if 0 in array.shape[-3:]:
        raise ValueError(f"an image of the shape {list(array.shape[-3:])} has no pixels")
    return len(array) > 0


def _content(file: Path) -> bytes:
    if file.exists() and not file.is_file():  # a pipe or a device would never end
        raise ValueError("no regular file")
    return file.read_bytes()


def _require_number(name: str, value: float | None) -> None:
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value)):
        raise ValueError(f"{name} must be a number, not {value!r}")


def _require_whole(name: str, value: float | None) -> None:
    _require_number(name, value)
    if value is not None and not (value >= 1 and value == int(value)):
        raise ValueError(f"{name} must be a whole number from 1 on, not {value}")
