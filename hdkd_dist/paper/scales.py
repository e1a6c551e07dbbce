"""Set at which size the paper is reproduced: networks, data sets, schedules, seeds, studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hdkd_dist.config.load import find_config
from hdkd_dist.files.strict_json import read_json_object

ROOT = Path(__file__).parents[2]  # the project's folder
Size = int | str  # images per class, validation included, or "full"
Setting = Mapping[str, Any]  # of a run's configuration, by dotted name

VALIDATION_PER_CLASS = 50


@dataclass(frozen=True)
class DataSet:
    """Count the images of a data set that the paper uses."""

    title: str  # as the paper writes it
    classes: int
    train: int  # images of the official training set
    test: int


DATA_SETS = {
    "cifar100": DataSet("CIFAR", classes=100, train=50_000, test=10_000),
    "imagenet": DataSet("ImageNet", classes=1000, train=1_281_167, test=50_000),
}


@dataclass(frozen=True)
class Bench:
    """Describe a network and its schedule on a data set of several sizes.

    Attributes:
        dataset: how the folders of the prepared data sets begin: ``cifar100-150``, ``imagenet``.
        config: of the network and its schedule.
        sizes: those of the table of methods, in the order in which they are run.
        compared: those between which the gains of HDKD are compared.
        ablation_size: that of the other studies.
        depths: Figure 2's networks: a name, and what it changes in the configuration's.
        figure_2_size: that of Figure 2; None where it has no curve.
        table_3_size: that of Table 3; None where it is computed on another bench.
        same_steps_as: the size whose number of training steps all sizes keep, their epochs
            stretched; None where an epoch is the same number of passes at each size.
        evaluation: arguments of evaluate.py.
    """

    dataset: str
    config: str
    sizes: tuple[Size, ...]
    compared: tuple[int, ...]
    ablation_size: Size
    depths: Mapping[str, Setting]
    figure_2_size: Size | None = None
    table_3_size: Size | None = None
    same_steps_as: Size | None = None
    evaluation: Mapping[str, str] = field(default_factory=dict)

    def read_config(self) -> dict[str, Any]:
        """Read the configuration, as it stands in the file."""
        return read_json_object(find_config(self.config))

    def folder(self, size: Size) -> str:
        """Name the prepared data set of a size."""
        return self.dataset if size == "full" else f"{self.dataset}-{size}"

    def title(self, size: Size) -> str:
        """Write a size as the paper does: CIFAR(150)."""
        return f"{DATA_SETS[self.dataset].title}({size})"

    def train_images(self, size: Size) -> int:
        """Count the images that θ is trained on: the validation split is not among them."""
        whole = DATA_SETS[self.dataset]
        drawn = whole.train if isinstance(size, str) else whole.classes * size
        return drawn - whole.classes * VALIDATION_PER_CLASS


@dataclass(frozen=True)
class Scale:
    """Describe a size at which the tables are computed.

    Attributes:
        name: as on the command line.
        benches: by data set.
        seeds: of the tables' runs.
        ablation_seeds: of Table 3 and of the smaller studies.
        tuned: whether network, learning rate and γ's rule are chosen on validation first (see
            ``tuning.py``); otherwise they are the configuration's.
        studies: those computed at this scale, in the order in which they are run.
        learned: settings of the methods that learn γ.
        random_start: Table 3's random γ₀, a value of ``hdkd.gamma.init``.
    """

    name: str
    benches: Mapping[str, Bench]
    seeds: tuple[int, ...]
    ablation_seeds: tuple[int, ...]
    tuned: bool
    studies: tuple[str, ...] = ()
    learned: Setting = field(default_factory=dict)
    random_start: str = "random"


def preset(name: str) -> Setting:
    """Return the setting that chooses another network."""
    return {"hdkd.model.preset": name}


# The set-up of Huang et al., which the paper follows in Figure 2.
_THRESHOLDS = {"search": "geometric", "confidence": "max_probability"}
_PAPER_BENCHES = {
    "cifar100": Bench(
        "cifar100",
        "ds_configs/cifar100.json",
        sizes=(150, 250, 350, 500),
        compared=(150, 250, 350, 500),
        ablation_size=150,
        depths={
            **{f"{k} exits": preset(f"msdnet-cifar-{k}") for k in (4, 5, 6)},
            "8 exits": {},
        },
        figure_2_size=500,
        evaluation=_THRESHOLDS,
    ),
    "imagenet": Bench(
        "imagenet",
        "ds_configs/imagenet.json",
        sizes=(100, 300, 500, "full"),
        compared=(100, 300, 500),
        ablation_size=100,
        depths={
            "4 layers a block": {},
            **{f"{k} layers a block": preset(f"msdnet-imagenet-{k}") for k in (6, 7)},
        },
        figure_2_size="full",
        table_3_size=300,
        same_steps_as="full",  # 50,000 images × 90 epochs are 4,300 steps: hardly training
        evaluation=_THRESHOLDS,
    ),
}
_PAPER_STUDIES = ("2", "controls", "equilibrium", "levers", "sizes", "1", "3", "figure2")

SCALES: dict[str, Scale] = {
    # Algorithm 1 to the letter. The paper does not give ε.
    "paper": Scale(
        "paper",
        _PAPER_BENCHES,
        seeds=(0, 1, 2),
        ablation_seeds=(0, 1, 2),
        tuned=False,
        studies=_PAPER_STUDIES,
        learned={
            "hdkd.gamma.lookahead": "lookahead",
            "hdkd.gamma.every": 1,
            "hdkd.gamma.optimizer": "sgd",
            "hdkd.gamma.lr": 0.1,
            "hdkd.gamma.constraint": "none",
        },
    ),
    # The same tables with this package's defaults, which cost half as much.
    "paper_cheap": Scale(
        "paper_cheap",
        _PAPER_BENCHES,
        seeds=(0, 1, 2),
        ablation_seeds=(0, 1, 2),
        tuned=False,
        studies=_PAPER_STUDIES,
    ),
    # Small enough for two cores of a laptop, and long enough for depth to pay.
    "small": Scale(
        "small",
        {
            "cifar100": Bench(
                "cifar100",
                "ds_configs/cifar100_paper_small.json",
                sizes=(150,),
                compared=(150, 350),
                ablation_size=150,
                depths={},
                table_3_size=150,
            ),
        },
        seeds=tuple(range(8)),
        ablation_seeds=tuple(range(4)),
        tuned=True,
        studies=("stage0", "stage0b", "block1", "block2", "block3", "block4", "block6"),
        random_start="random_same_sum",
    ),
}


def scale_named(name: str) -> Scale:
    """Return the scale of this name.

    Raises:
        ValueError: if there is none.
    """
    if name not in SCALES:
        *others, last = SCALES
        raise ValueError(f"--scale must be {', '.join(others)} or {last}, not {name!r}")
    return SCALES[name]
