"""Answers for a folder of image files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from hdkd_dist.inference.exported import Exported
from hdkd_dist.inference.runtime import EarlyExitRunner


@dataclass(frozen=True)
class Skipped:
    """A file that is no image, and why."""

    file: Path
    reason: str


def files_in(images: Path) -> list[Path]:
    """All files below a folder that are not hidden, by name; or the one file.

    Raises:
        ValueError: if there is none.
    """
    if not images.exists():
        raise ValueError(f"--images {images} does not exist: give a folder of images")
    if images.is_file():
        return [images]
    files = [
        file
        for file in sorted(images.rglob("*"))
        if (file.is_file() or not file.exists())  # a link that leads nowhere is named, too
        and not any(p.startswith(".") for p in file.relative_to(images).parts)
    ]
    if not files:
        raise ValueError(f"--images {images} is empty: give a folder of images")
    return files


def batches_of(
    exported: Exported, files: list[Path], batch: int
) -> Iterator[tuple[list[Path], Tensor, list[Skipped]]]:
    """Decode files in batches: those that are images, their pixels [B, 3, H, W], and the others."""
    for start in range(0, len(files), batch):
        good, pixels, skipped = [], [], []
        for file in files[start : start + batch]:
            try:
                pixels.append(exported.preprocessing.pixels(file.read_bytes()))
                good.append(file)
            except UnidentifiedImageError:  # its own text names no file
                skipped.append(Skipped(file, "not an image"))
            except Exception as error:  # Pillow raises nearly anything on bad data
                skipped.append(Skipped(file, f"cannot be decoded: {error}"))
        size = exported.preprocessing.size
        yield good, torch.stack(pixels) if pixels else torch.empty(0, 3, size, size), skipped


def answers_for(
    exported: Exported, runner: EarlyExitRunner, pixels: Tensor, files: list[Path]
) -> list[dict[str, Any]]:
    """One line per image: file, class, confidence and exit (1-based)."""
    normalize = exported.preprocessing.normalize(pixels.device)
    answers = runner(normalize(pixels))
    columns = [column.tolist() for column in answers]
    return [
        {
            "image": str(file),
            "class": exported.classes[prediction],
            "label": prediction,
            "confidence": round(confidence, 6),
            "exit": taken + 1,
        }
        for file, prediction, taken, confidence in zip(files, *columns, strict=True)
    ]
