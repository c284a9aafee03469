"""Warnings in plain words, with the numbers they rest on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from moe_cli.config.sections import conditions_of
from moe_cli.prepare.selection import BatchSelection
from moe_cli.prepare.selection_file import NamedExperts
from moe_cli.prepare.selection_warnings import selection_warnings
from moe_cli.records import NullUnion
from tests.prepare.simulated import risk_of, rule
from tests.views.test_selected_view import separation

POOLED = np.full((2, 4), 0.2)
NULL = NullUnion(draws=200, mean=2.5, lower=1.0, upper=4.0)


def said(by=None, q=0.01, union=(0, 1, 2, 3, 4), null=NULL, share=0.01, candidates=None, separation="", **risk):
    found = dataclasses.replace(risk_of([POOLED], POOLED, q_value=np.broadcast_to(q, (2, 4)).copy()), **risk)
    chosen = BatchSelection(candidates or union, (union,))
    return list(selection_warnings(by or rule(), chosen, found, null, separation, share, 0.05))


def test_a_clear_selection_has_no_warning():
    assert said() == []


def test_a_union_that_noise_reaches_is_called_so():
    (warning,) = said(union=(0, 1, 2))
    assert "union of 3 experts is not larger" in warning and "(2.5 on average, up to 4)" in warning


def test_a_selection_without_a_single_small_q_value_is_called_so():
    assert said(q=0.3) == ["none of the 5 selected experts has a q-value below 0.05: each of them may be noise"]


@pytest.mark.parametrize("method", ["file", "esft-token", "gradient", "all"])
def test_experts_that_are_significantly_less_active_inside_attacks_are_counted_and_are_no_evidence(method):
    pooled = np.array([[-0.2, -0.2, 0.2, 0.2], [0.2] * 4])
    assert said(rule(method), null=None, pooled=pooled) == [
        "2 of 5 selected experts are significantly less active while complying inside attacks (q < 0.05)"
    ]
    (warning,) = said(rule(method), null=None, pooled=-POOLED)
    assert warning.startswith("5 of 5 selected experts are significantly less active")


def test_less_active_and_undecided_experts_are_counted_apart():
    pooled, q = np.array([[-0.2, 0.2, 0.2, -0.2], [0.2] * 4]), [[0.01, 0.01, 0.3, 0.3], [0.3] * 4]
    less, undecided = said(q=q, pooled=pooled)
    assert less.startswith("1 of 5 selected experts are significantly less active")
    assert undecided == "3 of 5 selected experts have a q-value of 0.05 or more"


def test_the_number_of_small_q_values_is_not_compared_with_the_size_of_the_null_union():
    q = [[0.01, 0.01, 0.3, 0.3], [0.3] * 4]
    assert said(q=q) == ["3 of 5 selected experts have a q-value of 0.05 or more"]


def test_some_large_q_values_are_counted():
    q = [[0.01, 0.01, 0.01, 0.3], [np.nan, 0.3, 0.3, 0.3]]
    assert said(q=q) == ["2 of 5 selected experts have a q-value of 0.05 or more"]


def test_experts_that_tell_held_out_goals_apart_no_better_than_random_ones_are_called_so():
    assert said(separation=separation(p_value=0.05)) == []
    (warning,) = said(separation=separation(p_value=0.3))
    assert warning.startswith("on goals that chose no expert") and "(AUROC 0.997, random 0.738, p = 0.3)" in warning
    (warning,) = said(separation=separation(p_value=0.3, chance_of_same=0.25))
    assert warning.startswith("25% of equally used random sets are the selected experts themselves")
    assert said(rule("random"), separation=separation(p_value=0.3), null=None) == []


@pytest.mark.parametrize("method", ["random", "frequency", "all"])
def test_the_controls_are_not_blamed_for_what_they_are(method):
    assert said(rule(method), q=0.5, null=None) == []


def test_an_empty_selection_says_what_was_asked_for():
    (warning,) = said(rule(threshold=0.0, conditions=conditions_of("q<0.05")), union=(), null=None)
    assert warning == "no expert that meets q<0.05 has a pooled risk difference above 0.0: nothing to train selectively"
    (warning,) = said(rule("gradient"), union=(), candidates=(), null=None)
    assert "the method gradient finds no expert" in warning


def test_a_q_value_out_of_reach_with_so_few_goals_is_said_with_the_smallest_p():
    by = rule(conditions=conditions_of("q<0.05"))
    (warning,) = said(by, num_clusters=5)
    assert "with 5 goals" in warning and "no p-value is below 0.062" in warning
    assert warning.endswith("so no expert can meet q<0.05: bring more goals")
    (warning,) = said(by, num_clusters=8)
    assert (
        "over 8 experts a single one with it has q = 0.062" in warning and "needs 2 experts with it at once" in warning
    )
    assert said(by, num_clusters=12) == []


def test_a_q_value_that_only_more_swaps_could_reach_says_so():
    (warning,) = said(rule(conditions=conditions_of("q<0.001")))
    assert "with 20 goals and at most 1,000 swaps" in warning and warning.endswith("at once: raise prepare.resamples")


def test_budget_unused_candidates_and_remarks_are_said():
    assert said(share=0.2) == ["the union is 20.00% of all parameters, above the budget of 5.00%: not trained"]
    assert said(candidates=(0, 1, 2, 3, 4, 5)) == [
        "1 of 6 candidates were selected by no batch and will not be trained"
    ]
    assert said(rule(max_candidates=None)) == ["without a budget the union holds 5 experts, 1% of all parameters"]
    assert said(rule("file", named=NamedExperts((0,), remark="and more")), null=None) == ["and more"]
