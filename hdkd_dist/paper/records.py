"""What a finished run leaves for the tables: a row of one CSV, and the course of its γ in another.

``results.json`` as a row: its leaves by dotted name, lists counted from 1 (``exits.2.top1``).
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdkd_dist.paper.trials import Trial
from hdkd_dist.runs import names
from hdkd_dist.runs.metrics import METRICS, read_metrics
from hdkd_dist.runs.results import read_results

DONE = "trial.json"  # in a run's folder, once it is trained and evaluated
BUDGETS = 10  # intervals between those that are kept
CURVE = 80  # at most so many points of a curve are kept
DIGITS = 6
SPEED = "train.median_images_per_s"
PLACE = ("method", "size", "variant", "seed")
KEYS = ("name", *PLACE, "data", "identity")

Values = dict[str, Any]  # by dotted name


@dataclass(frozen=True)
class Record:
    """A finished run."""

    name: str
    identity: dict[str, Any]  # see Trial.identity
    place: dict[str, str]  # method, size, variant, seed: for those who read the CSV
    values: Values  # the leaves of results.json
    curve: list[dict[str, float]]  # step, every entry of γ, Σγ/Σγ₀; see keeps_curve
    data: str = ""  # Manifest.digest of what it was trained and measured on; "" if not known

    def exits(self, key: str) -> list[float]:
        """``val_top1``, ``top1`` … of all exits."""
        return [row[key] for row in nested(self.values)["exits"]]

    @property
    def has_test(self) -> bool:
        """Whether the test split has been measured."""
        return "exits.1.top1" in self.values

    @property
    def score(self) -> float:
        """What settings are chosen by: top-1 on the validation split, mean over exits."""
        values = self.exits("val_top1")
        return sum(values) / len(values)


def record_of(trial: Trial, folder: Path, data: str) -> Record:
    """The record of the finished run in ``folder``; ``data``: see there."""
    results = read_results(folder)
    kept: dict[str, Any] = {"exits": results["exits"], "gamma": dict(results["gamma"])}
    kept["gamma"].pop("sha256_by_rank", None)
    kept["train"] = {**results["train"], "median_images_per_s": median_speed(folder)}
    if budgeted := results.get("budgeted"):
        last = len(budgeted) - 1
        chosen = [budgeted[round(i * last / BUDGETS)] for i in range(BUDGETS + 1)]
        columns = ("budget_mmac", "mmac", "val_mmac", "val_top1", "val_top5", "top1", "top5")
        kept["budgeted"] = [{key: row[key] for key in columns if key in row} for row in chosen]
    place = {key: str(getattr(trial, key)) for key in PLACE}
    curve = curve_of(folder) if keeps_curve(trial) else []
    return Record(trial.name, trial.identity, place, flattened(kept), curve, data)


def keeps_curve(trial: Trial) -> bool:
    """Whether the course of γ is kept: of the search, and of methods as they are.

    Figures show these, and other runs build on them; of the rest γ at the end is among the values.
    """
    return not trial.variant or not trial.test


def median_speed(folder: Path) -> float:
    """Images per second between two records; unlike the mean it is not moved by interruptions."""
    events = read_metrics(folder)
    return statistics.median(e[names.IMAGES_PER_S] for e in events if names.IMAGES_PER_S in e)


def curve_of(folder: Path) -> list[dict[str, float]]:
    """How γ went, thinned out; empty where it has stood still."""
    steps = [event for event in read_metrics(folder) if event["event"] == "step"]
    gammas = [
        {
            name: rounded(event[name])
            for name in (names.GAMMA_SUM, *names.members(names.GAMMA, event))
        }
        for event in steps
    ]
    if all(gamma == gammas[0] for gamma in gammas):
        return []
    points = [{"step": event["step"], **gamma} for event, gamma in zip(steps, gammas, strict=True)]
    return points[::-1][:: -(-len(points) // CURVE)][::-1]  # the last is among them


def lay_out(record: Record, folder: Path) -> None:
    """Write what another run takes from this one, as the run itself would have left it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(nested(record.values)), encoding="utf-8")
    events = [json.dumps({"event": "step", **point}) + "\n" for point in record.curve]
    (folder / METRICS).write_text("".join(events), encoding="utf-8")


def flattened(tree: Any, path: str = "") -> Values:
    """``{"a": [{"b": 1}]}`` → ``{"a.1.b": 1}``."""
    if isinstance(tree, Mapping):
        parts: Iterable[tuple[object, Any]] = tree.items()
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        parts = enumerate(tree, start=1)
    else:
        return {path.removesuffix("."): rounded(tree)}
    leaves = [flattened(value, f"{path}{key}.") for key, value in parts]
    return {key: value for leaf in leaves for key, value in leaf.items()}


def nested(values: Mapping[str, Any]) -> Any:
    """The inverse of :func:`flattened`."""
    if "" in values:
        return values[""]
    parts: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = value
    if all(part.isdigit() for part in parts):
        return [nested(parts[key]) for key in sorted(parts, key=int)]
    return {key: nested(part) for key, part in parts.items()}


def rounded(value: Any) -> Any:
    """A number as the CSV holds it."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def read_records(results: Path, scale: str) -> dict[str, Record]:
    """What is known of a scale, by name; empty if there is nothing yet."""
    curves: dict[str, list[dict[str, float]]] = {}
    for row in read_rows(results / f"{scale}_gamma.csv"):
        point = {key: number(text) for key, text in row.items() if text and key != "name"}
        curves.setdefault(row["name"], []).append(point)
    records = {}
    for row in read_rows(results / f"{scale}.csv"):
        values = {key: number(text) for key, text in row.items() if key not in KEYS and text}
        place = {key: row[key] for key in PLACE}
        name, data = row["name"], row.get("data") or ""
        identity = json.loads(row["identity"])
        records[name] = Record(name, identity, place, values, curves.get(name, []), data)
    return records


def write_records(records: Mapping[str, Record], results: Path, scale: str) -> None:
    """The two files of a scale."""
    ordered = [records[name] for name in sorted(records)]
    rows = [
        {
            "name": record.name,
            **record.place,
            "data": record.data,
            "identity": json.dumps(record.identity, sort_keys=True),
            **record.values,
        }
        for record in ordered
    ]
    write_rows(results / f"{scale}.csv", rows, KEYS)
    points = [{"name": record.name, **point} for record in ordered for point in record.curve]
    write_rows(results / f"{scale}_gamma.csv", points, ("name", "step"))


def read_rows(file: Path) -> list[dict[str, str]]:
    """A CSV file's rows; none if there is no file."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> None:
    """A CSV file with all columns that occur, the named ones first."""
    columns = dict.fromkeys([*first, *sorted({key for row in rows for key in row}, key=in_order)])
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def in_order(name: str) -> list[tuple[int, str]]:
    """Sorts ``exits.2`` before ``exits.10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def number(text: str) -> float | int | str:
    """What a cell says."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
