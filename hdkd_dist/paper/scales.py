"""At which size the paper is reproduced: networks, data sets, schedules, seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]  # the project's folder
TITLES = {"cifar100": "CIFAR", "imagenet": "ImageNet"}
Size = int | str  # images per class, validation included, or "full"


@dataclass(frozen=True)
class Bench:
    """A network and its schedule on a data set of several sizes.

    Attributes:
        dataset: how the folders of the prepared data sets begin: ``cifar100-150``, ``imagenet``.
        config: of the network and its schedule.
        sizes: those of the table of methods, in the order in which they are run.
        compared: those between which the gains of HDKD are compared.
        ablation_size: that of the other studies.
        depths: Figure 2's networks: a name, and what it changes in the configuration's.
    """

    dataset: str
    config: str
    sizes: tuple[Size, ...]
    compared: tuple[int, ...]
    ablation_size: Size
    depths: Mapping[str, Mapping[str, object]]

    def read_config(self) -> dict[str, Any]:
        """The configuration, as it stands in the file."""
        return json.loads((ROOT / self.config).read_text(encoding="utf-8"))

    def folder(self, size: Size) -> str:
        """The name of the prepared data set of a size."""
        return self.dataset if size == "full" else f"{self.dataset}-{size}"

    def title(self, size: Size) -> str:
        """As the paper writes it: CIFAR(150)."""
        return f"{TITLES[self.dataset]}({size})"


@dataclass(frozen=True)
class Scale:
    """A size at which the tables are computed.

    Attributes:
        name: as on the command line.
        benches: by data set.
        seeds: of the tables' runs.
        ablation_seeds: of Table 3 and of the levers.
        tuned: whether the methods' settings are searched on the validation split first; otherwise
            they are the configuration's.
    """

    name: str
    benches: Mapping[str, Bench]
    seeds: tuple[int, ...]
    ablation_seeds: tuple[int, ...]
    tuned: bool


def preset(name: str) -> dict[str, object]:
    """Another preset."""
    return {"hdkd.model.preset": name}


def blocks(*layers: int) -> dict[str, object]:
    """The same preset with other blocks, and hence another number of exits."""
    return {"hdkd.model.overrides": {"layers_per_block": list(layers)}}


SCALES: dict[str, Scale] = {
    "paper": Scale(
        "paper",
        {
            "cifar100": Bench(
                "cifar100",
                "ds_configs/cifar100.json",
                sizes=(150, 250, 350, 500),
                compared=(150, 250, 350, 500),
                ablation_size=150,
                depths={f"{k} exits": preset(f"msdnet-cifar-{k}") for k in (4, 5, 6)},
            ),
            "imagenet": Bench(
                "imagenet",
                "ds_configs/imagenet.json",
                sizes=(100, 300, 500, "full"),
                compared=(100, 300, 500),
                ablation_size=100,
                depths={f"{k} layers a block": preset(f"msdnet-imagenet-{k}") for k in (4, 6, 7)},
            ),
        },
        seeds=(0, 1, 2),
        ablation_seeds=(0, 1, 2),
        tuned=False,
    ),
    # Small enough for two cores of a laptop.
    "small": Scale(
        "small",
        {
            "cifar100": Bench(
                "cifar100",
                "ds_configs/cifar100_paper_small.json",
                sizes=(150,),
                compared=(150, 250),
                ablation_size=150,
                depths={
                    "3 exits": blocks(1, 1, 1),
                    "4 exits": {},
                    "5 exits": blocks(1, 1, 1, 1, 1),
                },
            ),
        },
        seeds=(0, 1, 2),
        ablation_seeds=(0, 1),
        tuned=True,
    ),
}


def scale_named(name: str) -> Scale:
    """The scale of this name.

    Raises:
        ValueError: if there is none.
    """
    if name not in SCALES:
        raise ValueError(f"--scale must be {' or '.join(SCALES)}, not {name!r}")
    return SCALES[name]
