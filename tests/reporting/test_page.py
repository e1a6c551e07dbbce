"""The page is whole by itself, and holds what the runs hold."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs
from recorded_run import record_run, settings

from hdkd_dist.reporting.page import render
from hdkd_dist.reporting.runs import read_runs

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """What a browser would see: elements, attributes, text; scripts apart."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.attributes, self.text = [], [], [], []
        self.figures, self.scripts = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self.open[-1] if self.open else ("", {})
        if tag == "script" and attributes.get("type") == "application/json":
            self.figures.append(json.loads(data))
        elif tag in ("script", "style"):
            self.scripts.append(data)
        elif data.strip():
            self.text.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    chosen = {"hdkd": settings(), "dbt": settings("dbt"), "new": settings("hdbt")}
    folders = [record_run(folder / name, given) for name, given in chosen.items()]
    (folders[2] / "results.json").unlink()
    (folders[2] / "metrics.jsonl").write_text("")
    return read_runs(folders)


def test_nothing_is_asked_of_anybody(runs):
    page = Page(render(runs))
    assert not {"link", "img", "iframe", "object"} & set(page.elements)
    addresses = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert addresses == ["#run-1", "#run-2", "#run-3"]
    policy = next(value for name, value in page.attributes if value and "default-src" in value)
    assert policy.startswith("default-src 'none'; ")  # the browser refuses requests
    assert "http" not in policy
    own = [script for script in page.scripts if script != get_plotlyjs()]
    assert len(own) == len(page.scripts) - 1 == 2  # style and script
    assert not any("//" in part.replace("// ", "") or "@import" in part for part in own)


def test_page_shows_runs_and_differences(runs):
    page = Page(render(runs))
    for shown in ("34.50", "35.00", "HDKD", "DBT", "no record yet", "0.0%", "2.00"):
        assert shown in page.text, shown
    assert "hdkd.method" in page.text
    assert "hdkd.gamma.lr" not in page.text
    assert page.text.count("Validation accuracy per exit") == 1
    heat_maps = [f for f in page.figures if f["data"][0]["type"] == "heatmap"]
    assert len(heat_maps) == 3  # γ of both at the end; over time of the one that learns


def test_one_run(runs):
    page = Page(render(runs[:1]))
    assert "Differences in configuration" not in page.text
    assert len(page.figures) == 8
    assert ("open", None) in page.attributes


def test_only_a_run_without_any_record(runs):
    page = Page(render(runs[2:]))
    assert page.figures == []
    assert "No record yet." in page.text


def test_what_runs_contain_cannot_become_part_of_the_page(tmp_path):
    evil = "</script><img src=x onerror=alert(1)><b>&amp;"
    name = evil.replace("/", "")
    chosen = [
        settings(data={"path": evil}, model={"preset": "msdnet-digits", "overrides": {evil: 1}}),
        settings("dbt", data={"path": evil}),
    ]
    folders = [record_run(tmp_path / f"{name}{i}", given) for i, given in enumerate(chosen)]
    html = render(read_runs(folders))
    assert "<img" not in html.replace(get_plotlyjs(), "")
    page = Page(html)
    assert f"{name}0" in page.text
    legends = [t["name"] for f in page.figures for t in f["data"] if t.get("legendgroup")]
    assert legends
    assert not any("<" in legend for legend in legends)  # plotly knows some tags


def test_fifty_runs_of_different_networks(runs, tmp_path):
    four = read_runs([record_run(tmp_path / "four", exits=4, finished=False)])
    kinds = [runs[0], runs[2], runs[1], runs[2], *four]  # most have just started
    many = [replace(kinds[number % 5], name=f"run {number:02}") for number in range(50)]
    page = Page(render(many))
    for number in range(50):
        assert page.text.count(f"run {number:02}") == 3  # both tables, and the single runs
    assert ("open", None) not in page.attributes
    rows = [k for k, v in page.attributes if k == "data-order"]
    assert len(rows) == 50 * 4  # a column for each exit of the largest network
