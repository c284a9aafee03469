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
