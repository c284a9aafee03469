"""docs/families.md says what is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import transformers

from tests.experts.families_page import FIELD, PAGE, REMARKS, page, unchecked_row


def test_the_page_of_families_is_up_to_date():
    text = PAGE.read_text(encoding="utf-8")
    if f"\n{transformers.__version__} has " not in text:
        pytest.skip(f"the page is of another transformers than {transformers.__version__}")
    assert text == page(), "run python -m tests.experts.families_page"


def test_every_situation_of_the_field_names_one_test_or_a_file_that_is_there():
    root = Path(__file__).parents[2]
    tests = re.findall(r"^def (test_\w+)", (root / "tests/model/test_models_of_the_field.py").read_text(), re.MULTILINE)
    for situation, _, test in FIELD:
        if test.startswith("`"):
            assert (root / test.split("`")[1]).is_file(), situation
        else:
            assert sum(test in name for name in tests) == 1, situation


def test_every_remark_is_on_the_page():
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    for family, remark in REMARKS.items():
        assert any(row.startswith(f"| {family} |") and remark in row for row in rows)


def test_a_family_that_nobody_checked_has_a_row_that_says_so():
    assert unchecked_row("zorp_moe") == "| zorp_moe | not checked yet | | | | |\n"
