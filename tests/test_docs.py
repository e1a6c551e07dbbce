"""What the documentation says about names and files is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hdkd_dist.config.settings import Section, Settings
from hdkd_dist.method.weights import METHODS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def settings(section: type[Section] = Settings, path: str = "") -> list[str]:
    names = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            names += settings(kind, f"{path}{name}.")
        else:
            names.append(path + name)
    return names


def test_every_setting_is_documented_and_every_documented_one_exists():
    page = (ROOT / "docs/training.md").read_text()
    table = page.split("| setting `hdkd.…` |")[1].split("\n\n")[0]
    documented = [
        name
        for line in table.splitlines()[2:]
        for name in re.findall(r"`([\w.]+)`", line.split("|")[1])
    ]
    assert sorted(documented) == sorted(settings())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    pattern = r"`((?:hdkd_dist|ds_configs|data_prep|tests|docs)/[\w/.-]+)`"
    for name in re.findall(pattern, page.read_text()):
        assert (ROOT / name).exists(), name


def test_every_method_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert all(f"| `{name}` | {method.title} |" in text for name, method in METHODS.items())
