"""Which runs can be compared, and in what they differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hdkd_dist.reporting.runs import Run


def comparable(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of the same network on the same data, two at least, by what they have in common."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(f"{run.preset} on {run.data}", []).append(run)
    return {title: members for title, members in groups.items() if len(members) > 1}


def flatten(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{path}{name}"
        flat |= flatten(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings in which the runs' configurations differ, with each run's value.

    The run's own folder is left out; "–" where a configuration lacks the setting. Runs without a
    configuration have "–" everywhere.
    """

    def shown(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value)

    flat = [flatten(run.config) for run in runs]
    keys = {key: None for config in flat for key in config if key != "hdkd.run.out"}
    table = {key: [shown(config[key]) if key in config else "–" for config in flat] for key in keys}
    known = [bool(config) for config in flat]
    return {
        key: values
        for key, values in table.items()
        if len({value for value, has in zip(values, known, strict=True) if has}) > 1
    }
