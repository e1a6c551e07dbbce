"""Hold what the paper prints: every number of its tables, Figure 2's statements, and its misprints.

Top-5 in percent, one number per exit. Checked cell by cell against the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Accuracies = tuple[float, ...]  # exit 1, 2, …


@dataclass(frozen=True)
class Printed:
    """Hold a row of one of the paper's tables."""

    metric: str  # top1 or top5
    exits: Accuracies


# Five exits of four layers each (the paper says 23 layers).
TABLE_1: Mapping[str, Mapping[str, Accuracies]] = {
    "ImageNet(100)": {
        "MSDNet": (59.07, 67.16, 70.25, 70.90, 71.51),
        "Impr": (59.74, 68.27, 71.12, 72.06, 72.87),
        "DBT": (65.80, 70.82, 71.89, 71.55, 71.57),
        "NaiveDKD": (67.17, 71.35, 72.23, 72.04, 71.96),
        "HMSDNet": (60.12, 68.39, 70.59, 71.72, 72.11),
        "HDBT": (66.97, 71.24, 73.94, 74.06, 74.50),
        "HDKD": (68.30, 72.24, 74.02, 74.09, 74.85),
    },
    "ImageNet(300)": {
        "MSDNet": (72.45, 79.95, 83.12, 83.61, 84.66),
        "Impr": (73.27, 81.28, 84.33, 85.94, 85.96),
        "DBT": (76.01, 81.84, 83.41, 83.63, 84.01),
        "NaiveDKD": (77.49, 82.21, 83.69, 83.87, 84.33),
        "HMSDNet": (72.62, 80.54, 83.31, 84.92, 85.08),
        "HDBT": (78.90, 83.00, 84.61, 84.58, 85.06),
        "HDKD": (78.72, 82.58, 85.13, 85.87, 86.37),
    },
    "ImageNet(500)": {
        "MSDNet": (74.89, 82.76, 85.47, 85.92, 86.92),
        "Impr": (75.74, 84.13, 85.74, 86.31, 87.25),
        "DBT": (78.16, 83.87, 85.72, 86.30, 86.85),
        "NaiveDKD": (78.16, 84.03, 85.12, 85.35, 85.81),
        "HMSDNet": (75.16, 83.49, 86.83, 87.25, 88.56),
        "HDBT": (81.17, 85.07, 86.81, 87.26, 87.85),
        "HDKD": (80.70, 84.48, 86.47, 87.42, 87.96),
    },
    "ImageNet(full)": {
        "MSDNet": (79.25, 86.46, 89.15, 89.83, 90.75),
        "Impr": (80.15, 87.89, 90.52, 91.33, 91.74),
        "DBT": (80.80, 86.92, 88.82, 89.15, 89.73),
        "NaiveDKD": (82.33, 87.39, 88.85, 89.17, 89.67),
        "HMSDNet": (78.95, 87.43, 89.49, 91.22, 92.43),
        "HDBT": (83.06, 87.12, 90.85, 91.90, 92.04),
        "HDKD": (82.44, 87.91, 91.47, 91.79, 92.69),
    },
}

# Eight exits, 36 layers.
TABLE_2: Mapping[str, Mapping[str, Accuracies]] = {
    "CIFAR(150)": {
        "MSDNet": (74.44, 78.97, 81.27, 82.72, 84.12, 85.10, 85.30, 84.85),
        "Impr": (74.54, 79.67, 82.18, 83.69, 85.11, 86.80, 87.21, 86.82),
        "DBT": (80.92, 84.20, 84.95, 85.67, 86.24, 86.59, 86.36, 85.70),
        "NaiveDKD": (82.20, 84.72, 84.87, 86.10, 86.46, 86.90, 86.70, 85.99),
        "HMSDNet": (74.94, 79.07, 81.54, 83.14, 84.56, 85.39, 85.73, 84.96),
        "HDBT": (80.09, 82.91, 84.03, 85.69, 86.32, 86.84, 86.86, 86.94),
        "HDKD": (81.38, 83.87, 84.65, 86.33, 86.76, 87.20, 87.14, 87.43),
    },
    "CIFAR(250)": {
        "MSDNet": (81.99, 84.39, 86.00, 87.60, 88.70, 89.08, 89.14, 90.15),
        "Impr": (82.05, 84.76, 86.47, 88.12, 89.21, 89.96, 90.16, 91.18),
        "DBT": (87.08, 88.54, 89.55, 90.25, 90.74, 90.51, 90.36, 90.24),
        "NaiveDKD": (87.57, 88.49, 89.63, 89.78, 90.86, 90.72, 90.17, 89.89),
        "HMSDNet": (82.50, 84.89, 86.50, 88.11, 89.20, 89.57, 89.62, 90.61),
        "HDBT": (85.15, 86.35, 88.29, 89.37, 90.53, 90.66, 90.70, 91.39),
        "HDKD": (85.82, 86.72, 88.73, 89.69, 90.86, 90.94, 90.97, 91.59),
    },
    "CIFAR(350)": {
        "MSDNet": (83.33, 85.75, 87.38, 88.91, 89.86, 90.23, 90.24, 90.99),
        "Impr": (83.38, 86.12, 87.88, 89.43, 90.39, 91.14, 91.23, 92.04),
        "DBT": (86.56, 88.28, 89.14, 90.38, 90.87, 90.96, 90.74, 91.02),
        "NaiveDKD": (87.66, 88.92, 89.29, 90.71, 90.92, 91.19, 91.19, 91.61),
        "HMSDNet": (83.85, 86.26, 87.90, 89.42, 90.37, 90.73, 90.73, 91.45),
        "HDBT": (86.55, 88.04, 88.92, 90.55, 91.11, 91.23, 91.12, 92.19),
        "HDKD": (87.22, 88.48, 89.18, 90.83, 91.29, 91.35, 91.22, 92.37),
    },
    "CIFAR(500)": {
        "MSDNet": (86.44, 88.91, 90.61, 91.96, 92.57, 92.91, 92.80, 92.93),
        "Impr": (86.47, 89.11, 90.86, 92.03, 92.85, 93.38, 93.30, 93.46),
        "DBT": (88.91, 91.09, 92.30, 93.26, 93.37, 93.41, 93.00, 92.90),
        "NaiveDKD": (88.52, 90.74, 92.48, 92.94, 93.36, 93.36, 93.07, 92.80),
        "HMSDNet": (86.98, 89.44, 91.14, 92.49, 93.10, 93.42, 93.30, 93.40),
        "HDBT": (87.50, 90.48, 92.58, 93.22, 93.68, 93.85, 93.85, 93.89),
        "HDKD": (87.64, 90.74, 92.94, 93.40, 93.83, 93.96, 93.98, 94.02),
    },
}

# ImageNet(300). Fixed-1 and Fixed-2: the paper does not say from which runs their γ is.
TABLE_3: Mapping[str, Mapping[str, Accuracies]] = {
    "baseline": {
        "MSDNet": (72.45, 79.95, 83.12, 83.61, 84.66),
    },
    "initial γ": {
        "DBT-like": (79.02, 81.78, 83.67, 84.49, 85.65),
        "DS-like": (78.72, 82.58, 85.13, 85.87, 87.37),
        "random": (79.22, 82.30, 85.51, 85.95, 87.70),
    },
    "γ fixed at its final value": {
        "from DS-like": (78.47, 82.61, 84.23, 84.85, 85.91),
        "from DBT-like": (78.49, 82.21, 83.69, 83.87, 83.33),
    },
    "α": {
        "0": (77.51, 81.99, 85.65, 86.17, 87.94),
        "0.1": (76.64, 83.26, 85.34, 86.26, 87.54),
        "0.5": (78.72, 82.58, 85.13, 85.87, 87.37),
        "0.9": (77.07, 82.98, 84.83, 85.92, 87.31),
        "1": (79.55, 81.84, 84.94, 85.54, 86.11),
    },
}

PRINTED: Mapping[tuple[str, str, str], Printed] = {
    (table, block, row): Printed("top5", exits)
    for table, blocks in (("1", TABLE_1), ("2", TABLE_2), ("3", TABLE_3))
    for block, rows in blocks.items()
    for row, exits in rows.items()
}
"""By table, block and row, titled as in ``studies.py``."""

NETWORKS: Mapping[str, str] = {
    "1": "msdnet-imagenet-4",
    "2": "msdnet-cifar-8",
    "3": "msdnet-imagenet-4",
}
"""The preset that each table was computed with."""

MMAC: Mapping[str, Accuracies] = {
    "1": (340, 690, 1010, 1250, 1360),
    "2": (6.85, 14.4, 27.3, 48.4, 81.6, 113, 153, 193),
}
"""Multiply-adds up to each exit in millions, as the paper rounds them ("flops")."""


@dataclass(frozen=True)
class BudgetStatement:
    """Hold what the paper says of Figure 2 in numbers.

    Attributes:
        dataset: ImageNet(full) or CIFAR(500).
        mmac: the mean cost of an image, in millions of multiply-adds.
        better: the method that is ahead …
        than: … of this one …
        points: … by so many points of top-5.
    """

    dataset: str
    mmac: float
    better: str
    than: str
    points: float


FIGURE_2 = (
    BudgetStatement("ImageNet(full)", 2500, "HDKD", "DBT", 3.5),
    BudgetStatement("ImageNet(full)", 500, "HDKD", "DBT", 1.5),
    BudgetStatement("CIFAR(500)", 25, "HDKD", "MSDNet", 0.83),
    BudgetStatement("CIFAR(500)", 25, "DBT", "MSDNet", 0.71),
    BudgetStatement("CIFAR(500)", 125, "HDKD", "DBT", 1.66),
)


@dataclass(frozen=True)
class Misprint:
    """Note where the paper contradicts itself, or cannot mean what it prints."""

    where: str
    printed: str
    meant: str


MISPRINTS = (
    Misprint(
        "HDKD, ImageNet(300), exit 5",
        "86.37 in Table 1, 87.37 in two columns of Table 3 (DS-like, α = 0.5)",
        "not known; exits 1 to 4 agree",
    ),
    Misprint(
        "Table 2, head of the third block",
        "CIFAR(300)",
        "CIFAR(350): so say caption and text, and the margin 1.35 = 92.37 − 91.02",
    ),
    Misprint("Table 2, flops of exit 1", "6.85", "6.86: cut off where the others are rounded"),
    Misprint("Eq. 2", "the student's distribution weights the teacher's logarithm", "exchanged"),
    Misprint(
        "Eq. 9",
        "L_k without an argument",
        "open: at θ or at θ′, on the training or validation batch",
    ),
    Misprint("the text", "NaiveDS, H-MSDT, MSDT", "NaiveDKD, HMSDNet, MSDNet"),
    Misprint(
        "the text on Table 3",
        "Fixed-1 and Fixed-2 perform worse than Rand",
        "not so at exit 2: Fixed-1 82.61, Rand 82.30",
    ),
    Misprint("the network for ImageNet", "23 layers", "20, four a block, by the flops of Table 1"),
)
