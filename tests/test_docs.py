"""The pages that describe the code name every file of it, and nothing names this workplace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_linked_page_and_named_test_exists(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
    for test in re.findall(r"tests/[\w/]+\.py", text):
        assert (ROOT / test).exists(), test


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_prose_is_at_most_120_characters_wide(page):
    prose = [line for line in page.read_text(encoding="utf-8").splitlines() if not line.startswith("|")]
    assert [line for line in prose if len(line) > 120] == []


def test_the_conclusion_in_the_readme_is_that_of_the_demo_page_and_says_n_and_who_judged():
    shown = (ROOT / "docs/demo.md").read_text(encoding="utf-8").split("```")[1].splitlines()
    excerpt = (
        (ROOT / "README.md").read_text(encoding="utf-8").split("```\nConclusion\n")[1].split("```")[0].splitlines()
    )
    parts = [part.strip("\n") for part in "\n".join(excerpt).split("\n...\n")]
    assert len(parts) == 2
    assert all(part in "\n".join(shown) for part in parts)
    for part in parts:
        assert re.search(r"n = \d+ answers, \d+ goals", part.replace("\n", " "))
        assert "by the word of a smoke-test judge only" in part.replace("\n", " ")


def test_the_table_of_rooms_names_files_and_tests_that_exist():
    table = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## What each room keeps true\n\n")[2]
    rows = [line[2:].split(" | ") for line in table.partition("\n\n")[0].splitlines()[2:]]
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(rows) > 50
    for places, _, checks in rows:
        room = ""
        for place in () if places.startswith("all ") else places.split(", "):
            *rooms, name = place.split("/")
            room = "/".join(rooms) or room
            package = ROOT / "moe_cli"
            paths = [holder / f"{name}{end}" for holder in (package / room, package) for end in (".py", "")]
            assert any(path.exists() for path in paths), place
        assert set(re.findall(r"test_\w+\.py", checks)) <= tests, checks
