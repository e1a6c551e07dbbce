"""Names of what is tracked: shared by what writes them and what shows them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdkd_dist.runs.results import GammaEntries

# Groups: a value is called "<group>/<member>", as W&B has it.
LOSS = "loss"  # members as in LossLayout: ce_1, kd_3_to_1, …
GAMMA = "gamma"  # the same
TRAIN_TOP1 = "train/top1"  # members exit_1, exit_2, …
VAL_TOP1 = "val/top1"
VAL_TOP5 = "val/top5"
TEST_TOP1 = "test/top1"
TEST_TOP5 = "test/top5"
AVERAGE_CE = "average_ce"

# Single values.
GAMMA_SUM = "gamma_sum_ratio"
GRADIENT = "gradient_norm"
HYPERGRADIENT = "hypergradient_norm"
IMAGES_PER_S = "images_per_s"
WAITING = "wait_fraction"

MEMBER = re.compile(r"(ce|exit)_[1-9]\d*|kd_[1-9]\d*_to_[1-9]\d*")
PLACES = ("event", "step", "epoch")  # say where an event belongs; not measured


def members(group: str, names: Iterable[str]) -> list[str]:
    """List those of ``names`` that belong to the group, in their order."""
    return [
        name
        for name in names
        if name.rpartition("/")[0] == group and MEMBER.fullmatch(name.rpartition("/")[2])
    ]


def exits(group: str, values: Mapping[str, float]) -> list[float]:
    """List the group's values by exit, from the first to the last."""
    return [values[name] for name in sorted(members(group, values), key=exit_number)]


def exit_number(name: str) -> int:
    """Read 3 from ``val/top1/exit_3``."""
    return int(name.rpartition("_")[2])


def losses(group: str, names: Iterable[str]) -> dict[str, tuple[int | None, int]]:
    """Read (teacher, student) of the group's cross-entropies and distillations, counted from 1.

    The teacher of a cross-entropy is None.
    """
    places: dict[str, tuple[int | None, int]] = {}
    for name in members(group, names):
        kind, *numbers = name.rpartition("/")[2].replace("_to_", "_").split("_")
        student = int(numbers[-1])
        places[name] = (None, student) if kind == "ce" else (int(numbers[0]), student)
    return places


def gamma_by_name(gamma: GammaEntries, names: Iterable[str]) -> dict[str, float]:
    """Pick from a γ of ``results.json`` (``ce`` [K], ``kd`` [K, K]) the entries ``names`` names."""
    ce, kd = gamma["ce"], gamma["kd"]
    return {
        name: ce[student - 1] if teacher is None else kd[teacher - 1][student - 1]
        for name, (teacher, student) in losses(GAMMA, names).items()
    }


def flatten(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Turn ``{"a": {"b": 1}}`` into ``{"a.b": 1}``; empty mappings leave nothing."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{path}{name}"
        flat |= flatten(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


def plain(value: Any) -> Any:
    """Round numbers, and those in a list, to what people write: 4.6000000000000005 is 4.6."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def display(name: str) -> str:
    """Write ``gamma/kd_3_to_1`` as ``KD 3→1`` and ``val/top1/exit_2`` as ``exit 2``."""
    member = name.rpartition("/")[2]
    if member.startswith("exit_"):
        return member.replace("_", " ")
    return member.upper().replace("_TO_", "→").replace("_", " ")
