"""Tables for the console."""

from __future__ import annotations

from hdkd_dist.runs.results import budget_table


def test_networks_of_different_depths_share_a_table():
    row = {"budget_mmac": 1.0, "mmac": 1.0, "val_top1": 50.0, "top1": 50.0, "top5": 80.0}
    deep = {**row, "network": "deep", "thresholds": [0.5, 0.25, 2.0, 0.0]}
    shallow = {**row, "network": "shallow", "thresholds": [0.75, 0.0]}
    for rows in ([deep, shallow], [shallow, deep]):
        header, *lines = budget_table(rows).splitlines()
        assert header.split()[-3:] == ["t1", "t2", "t3"]
        by_name = {line.split()[1]: line.split()[6:] for line in lines}
        assert by_name == {"deep": ["0.500", "0.250", "-"], "shallow": ["0.750"]}
