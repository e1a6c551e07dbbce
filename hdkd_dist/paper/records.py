"""Keep what a finished run leaves: a row of one CSV, and the course of its γ in another.

``results.json`` as a row: its leaves by dotted name, lists counted from 1 (``exits.2.top1``).
Beside them stands how far training went, from ``metrics.jsonl``: ``train.top1.k`` and
``train.ce.k`` (on the augmented training images, at the last record), ``train.gradient_norm.mean``
and ``.last``, ``gamma.mean_sum_ratio``; and ``device``, which trained it. A row written before
these were kept lacks them.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdkd_dist.files.replacing import replace_file
from hdkd_dist.files.strict_json import MAX_BYTES, open_regular, parse_json, to_json
from hdkd_dist.paper.scales import DATA_SETS
from hdkd_dist.paper.trials import Trial
from hdkd_dist.runs import names
from hdkd_dist.runs.folder import METRICS, RESULTS
from hdkd_dist.runs.metrics import read_metrics
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
    """Hold a finished run."""

    name: str
    identity: dict[str, Any]  # see Trial.identity
    place: dict[str, str]  # method, size, variant, seed: for those who read the CSV
    values: Values  # the leaves of results.json
    curve: list[dict[str, float]]  # step, every entry of γ, Σγ/Σγ₀; see keeps_curve
    data: str = ""  # Manifest.digest of what it was trained and measured on; "" if not known

    def exits(self, key: str) -> list[float]:
        """Return ``val_top1``, ``top1`` … of all exits, in percent, [K]."""
        return [row[key] for row in nested(self.values)["exits"]]

    def held_out(self, metric: str, with_extra: bool) -> list[float]:
        """Average over the test split's images, and with ``with_extra`` those of ``extra`` too.

        ``extra`` are the training images that a size leaves: 35,000 of CIFAR(150).

        Args:
            metric: ``top1`` or ``top5``.
            with_extra: only for a run with :attr:`has_extra`.

        Returns:
            Accuracy in percent, [K]; each image counts once.
        """
        test = self.exits(metric)
        if not with_extra:
            return test
        whole = DATA_SETS[self.dataset]
        unused = whole.train - whole.classes * int(self.place["size"])
        return [
            (whole.test * a + unused * b) / (whole.test + unused)
            for a, b in zip(test, self.exits(f"extra_{metric}"), strict=True)
        ]

    @property
    def dataset(self) -> str:
        """Name the data set, a key of ``DATA_SETS``."""
        return self.name.partition("-")[0]

    @property
    def data_set(self) -> tuple[str, str]:
        """Name the data set and its size, which runs share that are compared."""
        return self.dataset, self.place["size"]

    @property
    def device(self) -> str:
        """Name what has trained it; "" where that was not recorded."""
        return str(self.values.get("device", ""))

    @property
    def has_test(self) -> bool:
        """Tell whether the test split has been measured."""
        return "exits.1.top1" in self.values

    @property
    def has_extra(self) -> bool:
        """Tell whether the split ``extra`` has been measured."""
        return "exits.1.extra_top1" in self.values


def record_of(trial: Trial, folder: Path, data: str) -> Record:
    """Read the finished run in ``folder``; ``data``: see ``Record``."""
    results = read_results(folder)
    kept: dict[str, Any] = {"exits": results["exits"], "gamma": dict(results["gamma"])}
    for name in ("sha256_by_rank", "rate"):
        kept["gamma"].pop(name, None)
    steps = [event for event in read_metrics(folder) if event["event"] == "step"]
    kept["gamma"]["mean_sum_ratio"] = statistics.fmean(event[names.GAMMA_SUM] for event in steps)
    kept["train"] = {**results["train"], **training_of(steps)}
    if hardware := results.get("hardware"):
        kept["device"] = hardware.get("name", hardware["device"])
    if budgeted := results.get("budgeted"):
        last = len(budgeted) - 1
        chosen = [budgeted[round(i * last / BUDGETS)] for i in range(BUDGETS + 1)]
        columns = ("budget_mmac", "mmac", "val_mmac", "val_top1", "val_top5", "top1", "top5")
        kept["budgeted"] = [
            {key: value for key, value in row.items() if key in columns} for row in chosen
        ]
    place = {key: str(getattr(trial, key)) for key in PLACE}
    curve = curve_of(steps) if keeps_curve(trial) else []
    return Record(trial.name, trial.identity, place, to_values(kept), curve, data)


def keeps_curve(trial: Trial) -> bool:
    """Decide whether the course of γ is kept: of the search, and of methods as they are.

    Figures show these, and other runs build on them; of the rest γ at the end is among the values.
    """
    return not trial.variant or not trial.test


def training_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up how training went, from the run's records.

    Returns:
        ``median_images_per_s`` (unlike a mean it is not moved by interruptions); at the last record
        ``top1`` in percent and ``ce``, both [K]; ``gradient_norm``, the mean over records and the
        last. What an older run did not record is left out.
    """
    last = steps[-1]
    exits = range(1, len(names.exits(names.TRAIN_TOP1, last)) + 1)
    found = {
        "median_images_per_s": statistics.median(event[names.IMAGES_PER_S] for event in steps),
        "top1": names.exits(names.TRAIN_TOP1, last),
        "ce": [last[f"{names.LOSS}/ce_{k}"] for k in exits],
    }
    if norms := [event[names.GRADIENT] for event in steps if names.GRADIENT in event]:
        found["gradient_norm"] = {"mean": statistics.fmean(norms), "last": norms[-1]}
    return found


def curve_of(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Thin out the course of γ; empty where it has stood still."""
    gammas = [
        {
            name: to_csv_digits(event[name])
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
    replace_file(folder / RESULTS, to_json(nested(record.values)))
    events = [to_json({"event": "step", **point}) + "\n" for point in record.curve]
    replace_file(folder / METRICS, "".join(events))


def to_values(tree: Mapping[str, Any]) -> Values:
    """Turn ``{"a": [{"b": 1}]}`` into ``{"a.1.b": 1}``, rounded as the CSV holds it."""
    leaves = names.flatten(numbered(tree))
    return {name: to_csv_digits(value) for name, value in leaves.items()}


def numbered(tree: Any) -> Any:
    """Turn lists, at any depth, into mappings from "1", "2", …"""
    if isinstance(tree, Mapping):
        return {key: numbered(value) for key, value in tree.items()}
    if isinstance(tree, Sequence) and not isinstance(tree, str):
        return {str(place): numbered(value) for place, value in enumerate(tree, start=1)}
    return tree


def nested(values: Mapping[str, Any]) -> Any:
    """Undo :func:`to_values`."""
    if "" in values:
        return values[""]
    parts: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest] = value
    if all(part.isdigit() for part in parts):
        return [nested(parts[key]) for key in sorted(parts, key=int)]
    return {key: nested(part) for key, part in parts.items()}


def to_csv_digits(value: Any) -> Any:
    """Round a number as the CSV holds it."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def read_records(results: Path, scale: str) -> dict[str, Record]:
    """Read what is known of a scale, by name; empty if there is nothing yet."""
    curves: dict[str, list[dict[str, float]]] = {}
    for row in read_rows(results / f"{scale}_gamma.csv", ("name", "step")):
        point: Values = {
            key: parse_cell(text) for key, text in row.items() if text and key != "name"
        }
        curves.setdefault(row["name"], []).append(point)
    records = {}
    for row in read_rows(results / f"{scale}.csv", ("name", *PLACE, "identity")):
        values = {key: parse_cell(text) for key, text in row.items() if key not in KEYS and text}
        place = {key: row[key] for key in PLACE}
        name, data = row["name"], row.get("data") or ""
        try:
            identity = parse_json(row["identity"])
        except ValueError as error:
            raise ValueError(
                f"{results / scale}.csv: the identity of {name!r} is damaged ({error}): restore "
                "the file, or delete that row to have the run trained again"
            ) from None
        records[name] = Record(name, identity, place, values, curves.get(name, []), data)
    return records


def write_records(records: Mapping[str, Record], results: Path, scale: str) -> None:
    """Write the two files of a scale."""
    ordered = [records[name] for name in sorted(records)]
    rows = [
        {
            "name": record.name,
            **record.place,
            "data": record.data,
            "identity": to_json(record.identity, sort_keys=True),
            **record.values,
        }
        for record in ordered
    ]
    write_rows(results / f"{scale}.csv", rows, KEYS)
    points = [{"name": record.name, **point} for record in ordered for point in record.curve]
    write_rows(results / f"{scale}_gamma.csv", points, ("name", "step"))


def read_rows(file: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file's rows; none if there is no file.

    Args:
        file: as :func:`write_rows` leaves it.
        needed: columns that must be there.

    Raises:
        ValueError: for anything else in its place, in one line.
    """
    try:
        with open_regular(file) as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        if not content.endswith(b"\n"):
            raise ValueError("it ends in the middle of a line")
        lines = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        columns = lines.fieldnames or []
        if missing := [name for name in needed if name not in columns]:
            raise ValueError(f"it has no column {missing[0]!r}")
        if len(set(columns)) < len(columns):
            raise ValueError("a column stands twice")
        rows = list(lines)
        for number, row in enumerate(rows, start=1):
            if None in row or None in row.values():
                raise ValueError(f"row {number} has not as many cells as there are columns")
        return rows
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"{file} is not what collect has written ({said}): restore it, or delete it to begin "
            "anew"
        ) from None


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> None:
    """Write a CSV file with all columns that occur, the named ones first."""
    columns = dict.fromkeys([*first, *sorted({key for row in rows for key in row}, key=in_order)])
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(file, lines.getvalue())


def in_order(name: str) -> list[tuple[int, str]]:
    """Sort ``exits.2`` before ``exits.10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def parse_cell(text: str) -> float | int | str:
    """Read a cell: a whole number, a number, or a word.

    Raises:
        ValueError: for a number that is not finite.
    """
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if not math.isfinite(value):
            raise ValueError(f"a collected result is {text}: collect its run again")
        return value
    return text
