"""Control sets are as the selected set in layers and use, and chance alone ranks it uniformly among them."""

from __future__ import annotations

import numpy as np
import pytest

from moe_cli.stats.control_sets import (
    NUM_STRATA,
    coverage_of,
    draw_control_sets,
    mean_overlap,
    most_shared,
    overlap_with_selected,
    strata_of,
)
from tests.studies.ablate_nulls import null_p_values


def example(seed: int = 0):
    generator = np.random.default_rng(seed)
    use_LE = generator.integers(0, 1000, (4, 16))
    selected_LE = np.zeros((4, 16), dtype=bool)
    selected_LE.flat[generator.choice(64, 12, replace=False)] = True
    return selected_LE, use_LE


def test_strata_are_four_equal_groups_of_each_layer_by_use():
    use_LE = np.array([[5, 1, 7, 3, 9, 0, 2, 8]])
    assert strata_of(use_LE).tolist() == [[2, 0, 2, 1, 3, 0, 1, 3]]
    assert strata_of(np.zeros((1, 8))).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]]


def test_a_control_set_has_as_many_experts_of_every_layer_and_stratum_as_the_selected_set():
    selected_LE, use_LE = example()
    strata_LE = strata_of(use_LE)
    for control_LE in draw_control_sets(selected_LE, use_LE, num=39, seed=42):
        for layer in range(4):
            for stratum in range(NUM_STRATA):
                inside = strata_LE[layer] == stratum
                assert control_LE[layer, inside].sum() == selected_LE[layer, inside].sum()


def test_control_sets_may_hold_selected_experts_and_each_expert_of_a_stratum_comes_as_often():
    selected_LE, use_LE = example()
    sets = draw_control_sets(selected_LE, use_LE, num=2000, seed=1)
    share_LE = np.mean(sets, axis=0)
    strata_LE = strata_of(use_LE)
    for layer in range(4):
        for stratum in range(NUM_STRATA):
            inside = strata_LE[layer] == stratum
            expected = selected_LE[layer, inside].mean()
            assert share_LE[layer, inside] == pytest.approx(np.full(4, expected), abs=4 * 0.5 / 2000**0.5)


def test_a_control_set_depends_on_its_number_alone_not_on_how_many_are_drawn():
    selected_LE, use_LE = example()
    few, many = (draw_control_sets(selected_LE, use_LE, num=num, seed=42) for num in (3, 9))
    assert all(np.array_equal(one, other) for one, other in zip(few, many[:3], strict=True))
    assert not np.array_equal(many[0], many[1])
    assert not np.array_equal(draw_control_sets(selected_LE, use_LE, num=1, seed=43)[0], few[0])


def test_coverage_is_a_share_of_choices_and_overlap_one_of_selected_experts():
    use_LE = np.array([[10, 30, 40, 20]])
    selected_LE, other_LE = np.array([[True, True, False, False]]), np.array([[False, True, True, False]])
    assert coverage_of(selected_LE, use_LE) == pytest.approx(0.4)
    assert overlap_with_selected(other_LE, selected_LE) == pytest.approx(0.5)
    assert mean_overlap([other_LE, selected_LE], selected_LE) == pytest.approx(0.75)
    assert most_shared([other_LE, selected_LE], selected_LE) == 1  # the second expert is in both
    assert most_shared([other_LE, ~other_LE], selected_LE) == 0.5
    empty_LE = np.zeros((1, 4), dtype=bool)
    assert coverage_of(empty_LE, use_LE) is overlap_with_selected(empty_LE, selected_LE) is None


def test_a_true_null_is_rejected_in_5_of_100_cases_even_where_one_expert_makes_the_whole_effect():
    num = 200
    p_values = null_p_values(num, num_controls=19)
    assert np.mean(p_values <= 0.05) <= 0.05 + 2 * (0.05 * 0.95 / num) ** 0.5


def test_control_sets_without_the_selected_experts_would_fail_that_test():
    num = 200
    p_values = null_p_values(num, num_controls=19, disjoint=True)
    assert np.mean(p_values <= 0.05) > 0.05 + 2 * (0.05 * 0.95 / num) ** 0.5
