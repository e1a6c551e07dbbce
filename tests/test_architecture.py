"""The page on the architecture says what the code does: its folders, arrows and names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from test_arrows import MAY_IMPORT

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, row by row."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_of_floors_is_the_one_that_is_enforced():
    documented = {
        re.fullmatch(r"`(.+)`", folder)[1]: set(re.findall(r"`([\w/]+)`", imports))
        for folder, _, imports in table("The floors")
    }
    assert documented == {folder: house for folder, (_, house) in MAY_IMPORT.items()}


def test_floors_are_listed_from_the_lowest():
    above: set[str] = set()
    for folder, (_, house) in reversed(MAY_IMPORT.items()):
        subfolders = {each for each in above if each.startswith(f"{folder}/")}
        assert not house & above - subfolders, folder
        above.add(folder)


def names_defined(file: Path) -> set[str]:
    """The functions, classes and constants of a module."""
    body = ast.parse(file.read_text()).body
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = [node.target for node in body if isinstance(node, ast.AnnAssign)]
    assigned += [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return names | {target.id for target in assigned if isinstance(target, ast.Name)}


def test_names_to_change_are_in_the_files_that_are_named():
    pattern = r"((?:`\w+`(?:,| and) )*`\w+`) in `(hdkd_dist/[\w/]+\.py)`"
    found = [pair for row in table("Where do I change …") for pair in re.findall(pattern, row[1])]
    assert len(found) > 10
    for names, file in found:
        assert set(re.findall(r"`(\w+)`", names)) <= names_defined(ROOT / file), file


def test_modules_in_the_picture_exist():
    picture = PAGE.split("```")[1]
    named = {f"/{name}" for name in re.findall(r"\b[\w/]+\.py\b", picture)}
    paths = [f"/{file.relative_to(ROOT)}" for file in (ROOT / "hdkd_dist").rglob("*.py")]
    missing = {name for name in named if not any(path.endswith(name) for path in paths)}
    assert missing == {"/data_prep/NAME.py"}


def test_modules_that_moved_are_where_the_changelog_says():
    page = (ROOT / "CHANGELOG.md").read_text()
    table = page.split("### Moved modules")[1].split("\n## ")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if "|" in line]
    for name in re.findall(r"`([\w.]+)`", " ".join(rows)):
        path = ROOT / "hdkd_dist" / name.replace(".", "/")
        assert path.with_suffix(".py").is_file() or path.is_dir(), name


def test_the_changelog_has_the_formats_of_this_version():
    table = (ROOT / "CHANGELOG.md").read_text().split("### Formats")[1].split("\n## ")[0]
    rows = re.findall(r"\| `(hdkd_dist/[\w/]+\.py)` \|.* (\d+) \|$", table, re.MULTILINE)
    written = {name: number for name, number in rows}
    found = {}
    for file in (ROOT / "hdkd_dist").rglob("*.py"):
        if match := re.search(r"^FORMAT = (\d+)", file.read_text(), re.MULTILINE):
            found[file.relative_to(ROOT).as_posix()] = match[1]
    assert written == found
