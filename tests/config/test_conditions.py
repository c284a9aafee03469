"""Conditions on the evidence are read strictly, before anything runs."""

from __future__ import annotations

import pytest

from moe_cli.config import load_config
from moe_cli.config.sections import EvidenceCondition, conditions_of
from moe_cli.errors import UsageError


def test_comparisons_joined_by_and_are_read_with_any_spacing():
    assert conditions_of("q<0.05") == (EvidenceCondition("q", "<", 0.05),)
    assert conditions_of(" risk_diff >= .1 and  stability>9e-1 ") == (
        EvidenceCondition("risk_diff", ">=", 0.1),
        EvidenceCondition("stability", ">", 0.9),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "q",
        "q<",
        "q=0.05",
        "q<0.05,p<0.05",
        "q<0.05 or p<0.05",
        "q<0.05 and",
        "Q<0.05",
        "0.05>q",
        "q<0.05x",
        "q<1e999",
    ],
)
def test_anything_else_is_refused_with_what_is_expected(text):
    with pytest.raises(ValueError, match="write comparisons such as"):
        conditions_of(text)


def test_an_unknown_quantity_is_named():
    with pytest.raises(ValueError, match="compares 'size'"):
        conditions_of("size>3")


def resolved(**flags):
    words = {f"prepare.{name}": value for name, value in flags.items()}
    return load_config(file=None, environment={}, assignments=(), flags=words).prepare


def test_a_condition_that_is_not_understood_is_one_problem_of_the_configuration():
    with pytest.raises(UsageError, match=r"prepare\.select_by: .*no comparison.*\(from the command line\)"):
        resolved(select_by="q is small")


def test_a_condition_takes_the_place_of_the_default_threshold_and_none_takes_it_back():
    assert resolved().smallest_difference == 0.05
    assert resolved(select_by="q<0.05").smallest_difference == 0.0
    assert resolved(select_by="q<0.05", threshold=0.1).smallest_difference == 0.1
    assert resolved(select_by="none").select_by is None


@pytest.mark.parametrize("method", ["random", "frequency"])
def test_a_control_needs_the_budget_it_is_matched_to(method):
    with pytest.raises(UsageError, match="matched to a budget"):
        resolved(method=method, budget="none")
