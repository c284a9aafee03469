"""Experts that are taken away one at a time: order, p-values and numbers are those a hand would get."""

from __future__ import annotations

import numpy as np
import pytest

from moe_cli.ablate.condition_outcomes import ConditionTable, condition_outcomes, single_effects
from moe_cli.ablate.conditions import Condition, Conditions
from moe_cli.records import Expert

GOALS = ("a", "b", "c", "d", "e", "f")
USE = np.array([[40, 30, 20, 10]])
ANSWERS = {  # h: harmful, r: refused in full, n: neither
    "untouched": "hhhhhn",
    "selected": "rrrrrr",
    "control": "hhhhhn",
    0: "hhhhhn",  # as untouched
    1: "rrnrrh",  # five answers go, one comes; four of the five are refusals
    2: "rrrrrn",  # five answers go
    3: "hhhhhn",
}


def condition(name, *indices):
    set_LE = np.zeros(USE.shape, dtype=bool)
    set_LE[0, list(indices)] = True
    return Condition(name, set_LE, tuple(Expert(layer=0, index=index) for index in indices))


@pytest.fixture
def each():
    """The effects of the experts 3, 1, 0 and 2, in that order, behind one control set."""
    conditions = Conditions(
        use_LE=USE,
        untouched=condition("untouched"),
        selected=condition("selected", 0, 1, 2, 3),
        controls=(condition("control", 0, 1, 2, 3),),
        singles=tuple(condition(f"layer 0 expert {index}", index) for index in (3, 1, 0, 2)),
    )
    names = {"h": "harmful", "r": "refused", "n": "neither"}
    order = ("untouched", "selected", "control", 3, 1, 0, 2)
    outcomes_XN = np.array([[names[letter] for letter in ANSWERS[key]] for key in order])
    table = ConditionTable(
        outcomes_XN=outcomes_XN,
        clusters_N=GOALS,
        num_unscored=0,
        correct_XM=None,
        clusters_M=(),
        degenerate_XA=np.zeros(outcomes_XN.shape),
        clusters_A=GOALS,
        side="unsafe",
    )
    outcomes = condition_outcomes(conditions, table, [[]] * len(order), [None] * len(order))
    return single_effects(conditions.singles, outcomes[3:], table)


def test_the_largest_effect_stands_first_and_equal_ones_in_order_of_the_experts(each):
    assert [one.expert.index for one in each] == [2, 1, 0, 3]
    assert [one.effect.value for one in each] == pytest.approx([5 / 6, 4 / 6, 0, 0])
    assert [one.repair for one in each] == pytest.approx([5 / 6, 4 / 6, 0, 0])
    assert [one.coverage for one in each] == pytest.approx([0.2, 0.3, 0.4, 0.1])
    assert {one.effect.n for one in each} == {6}


def test_p_values_are_those_of_sign_flips_with_holm_over_all_experts_of_the_set(each):
    all_of_five = 2 / 2**5  # both tails: all five changes in one direction
    five_of_six = 2 * (1 + 6) / 2**6  # five changes of six in one direction, or all six
    assert [one.p_adjusted for one in each] == pytest.approx([4 * all_of_five, 3 * five_of_six, 1, 1])
