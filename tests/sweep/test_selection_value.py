"""V against planted truths: what a good, a bad and a random selection are worth, and what the p can say."""

from dataclasses import replace

import numpy as np
import pytest

from moe_cli.config import MoeConfig
from moe_cli.records import PointResult, SweepPoint
from moe_cli.stats.metrics import ACCURACY, ATTACK_SUCCESS
from moe_cli.stats.outcomes import mean_run
from moe_cli.stats.significance import rank_p
from moe_cli.sweep.conclusions import conclude_sweep, independent_runs
from moe_cli.sweep.point_places import MeasuredPoint
from moe_cli.sweep.selection_value import SweptRuns, log_trapezoid, selection_value
from tests.studies.sweep_nulls import null_value, random_rate, run_of

SHARES = {0.01: 0.01, 0.1: 0.1}


def constant(draw, rates, seeds=(1,), goals=20):
    """Runs in which so many of the goals succeed, whatever the seed."""
    runs = {
        (budget, seed): run_of([[place < round(rate * goals)] for place in range(goals)])
        for budget, rate in zip(SHARES, rates, strict=True)
        for seed in seeds
    }
    return SweptRuns(draw=draw, runs=runs)


def value_of(method, draws, **changes):
    return selection_value("m", method, draws, SHARES, (1,), seed=0, num_resamples=100, **changes)


def test_v_is_the_mean_of_random_minus_the_method_and_p_counts_the_draws_that_are_as_good():
    found = value_of(constant(None, (0.5, 0.1)), [constant(1, (0.9, 0.5)), constant(2, (0.7, 0.1))])
    assert found.value == pytest.approx(0.25)  # (0.8 - 0.5 + 0.3 - 0.1) / 2
    assert (found.area, found.draw_areas) == (pytest.approx(0.3), (pytest.approx(0.7), pytest.approx(0.4)))
    assert found.p_value == found.least_p == pytest.approx(1 / 3)
    assert found.lower <= found.value <= found.upper
    tied = value_of(constant(None, (0.5, 0.1)), [constant(1, (0.5, 0.1)), constant(2, (0.7, 0.1))])
    assert tied.p_value == pytest.approx(2 / 3)


def test_a_selection_that_is_worse_than_random_has_a_negative_v_and_a_p_of_one():
    found = value_of(constant(None, (0.9, 0.9)), [constant(1, (0.5, 0.5)), constant(2, (0.6, 0.4))])
    assert found.value == pytest.approx(-0.4) and found.p_value == 1.0


def test_the_mean_over_budgets_is_the_trapezoid_in_the_logarithm_of_the_share():
    assert log_trapezoid([0.01, 0.1, 0.2]) == pytest.approx(
        np.array([np.log(10), np.log(20), np.log(2)]) / 2 / np.log(20)
    )
    assert log_trapezoid([0.05]).tolist() == [1.0]
    assert log_trapezoid([0.05, 0.05]).tolist() == [0.5, 0.5]
    assert log_trapezoid([0.09, 0.08]).tolist() == [0.5, 0.5]  # the larger budget selected fewer experts
    ten = log_trapezoid([0.01, 0.1, 0.1])  # nothing more was eligible: as much as that share alone
    assert ten[0] == pytest.approx(0.5) and ten[1] + ten[2] == pytest.approx(0.5)


def test_what_lacks_a_point_is_left_out_and_named():
    method, draws = constant(None, (0.5, 0.1)), [constant(1, (0.9, 0.5)), constant(2, (0.7, 0.1))]
    broken = SweptRuns(draw=2, runs={key: run for key, run in draws[1].runs.items() if key[0] < 0.05})
    found = value_of(method, [draws[0], broken])
    assert (found.lower, found.upper) == (None, None)  # one draw shows no variance over draws
    assert found.left_out == (2,) and found.value == pytest.approx(0.4) and found.least_p == 0.5
    nothing = value_of(method, [broken])
    assert (nothing.value, nothing.p_value, nothing.left_out) == (None, None, (2,))
    partial = SweptRuns(draw=None, runs={key: run for key, run in method.runs.items() if key[0] < 0.05})
    assert value_of(partial, [draws[0], broken]).budgets == (0.01,)


@pytest.mark.parametrize(("of_method", "of_draws", "goals"), [(0, 0, 3), (0, 1, 3), (0.5, 0.5, 20)])
def test_v_has_no_interval_where_no_goal_no_draw_and_no_seed_differs_or_there_is_one_goal(of_method, of_draws, goals):
    draws = [constant(draw, (of_draws, of_draws), goals=goals) for draw in (1, 2, 3)]
    found = value_of(constant(None, (of_method, of_method), goals=goals), draws)
    assert (found.value, found.lower, found.upper) == (of_draws - of_method, None, None)
    one = value_of(constant(None, (0, 0), goals=1), [constant(1, (1, 0), goals=1), constant(2, (0, 0), goals=1)])
    assert (one.value, one.lower, one.upper, one.clusters) == (0.25, None, None, 1)


def test_a_draw_of_which_no_point_is_complete_is_named_too():
    def point(kind, method, draw=None, budget=0.1):
        whose = SweepPoint(kind=kind, method=method, draw=draw, budget=budget, seed=1, scale=1.0)
        found = dict.fromkeys(("reason", "run", "evaluation", "num_experts", "attack_success", "over_refusal"))
        found |= dict.fromkeys(("accuracy", "degenerate", "kl", "seconds_training"))
        result = PointResult(point=whose, digest="0", state="complete", trainable_ratio=budget, **found)
        return MeasuredPoint(result, run_of([[True, False]] * 5, [False] * 5))

    points = [point("base", None, budget=0.0), point("method", "risk_diff"), point("random", "risk_diff", draw=1)]
    config = MoeConfig(seed=1, sweep={"budgets": [0.1], "random_draws": 3})
    (value,) = conclude_sweep(points, config, "prepared", "tiny").values
    assert (value.left_out, value.least_p) == ((2, 3), 0.5)


def test_why_the_value_is_not_known_is_what_is_missing():
    method, draw = constant(None, (0.5, 0.1)), constant(1, (0.9, 0.5))
    harmless = SweptRuns(draw=None, runs={key: {} for key in method.runs})
    unscored = SweptRuns(draw=1, runs={**draw.runs, (0.1, 1): run_of([[None]] * 20)})
    assert value_of(method, []).unknown == "no random experts were asked for"
    assert value_of(method, [SweptRuns(draw=1, runs={})]).unknown == "no random draw has all of its points"
    assert value_of(SweptRuns(draw=None, runs={}), [draw]).unknown == "no budget has all of its points"
    for found in (value_of(method, [unscored]), value_of(harmless, [replace(harmless, draw=1)])):
        assert (found.value, found.unknown) == (
            None,
            "in some suite a point has no answer to an attack that is scored and not broken",
        )
    assert value_of(method, [draw]).unknown is None


def test_answers_without_a_verdict_count_neither_as_yes_nor_as_no():
    runs = {(budget, 1): run_of([[True], [None], [False], [None]]) for budget in SHARES}
    found = value_of(SweptRuns(draw=None, runs=runs), [SweptRuns(draw=1, runs=runs)])
    assert found.area == pytest.approx(0.5) and found.value == 0.0


def test_several_suites_have_one_vote_each():
    both = {(budget, 1): run_of([[True, False], [True, False], [True, True]]) for budget in SHARES}
    found = value_of(SweptRuns(draw=None, runs=both), [SweptRuns(draw=1, runs=both)])
    assert found.area == pytest.approx((1 + 1 / 3) / 2)


def test_a_random_method_is_worth_nothing_and_its_p_is_uniform():
    """100 simulated sweeps with 4 draws: p is 0.2, 0.4, ... 1 with 20 each, within 4 standard deviations."""
    found = [null_value(seed, draws=4, seeds=1, goals=20, num_resamples=60) for seed in range(100)]
    values = np.array([one.estimate.value for one in found])
    assert abs(values.mean()) < 3 * values.std() / 10
    counts = np.bincount([round(5 * one.estimate.p_value) for one in found], minlength=6)[1:]
    assert counts.sum() == 100 and np.abs(counts - 20).max() <= 16
    held = np.mean([one.estimate.lower <= one.truth <= one.estimate.upper for one in found])
    assert held >= 0.88


def test_a_tie_counts_against_the_method():
    assert rank_p(-0.3, [-(0.1 + 0.2), -0.5, -0.6]) == 0.5


def test_the_interval_of_random_experts_takes_the_seeds_of_a_draw_for_alike():
    rates = [random_rate(seed) for seed in range(100)]
    held, if_independent = (sum(one[way].lower <= one[2] <= one[way].upper for one in rates) for way in (0, 1))
    assert held >= 90 and if_independent <= 80


def test_a_draw_is_the_mean_of_its_seeds_in_every_item_and_unscored_where_a_seed_is():
    runs = [run_of([[True], [True], [None]]), run_of([[False], [True], [True]]), run_of([[False], [False], [True]])]
    first, second = independent_runs([1, 1, 2], runs)
    assert [item.outcomes[ATTACK_SUCCESS] for item in first.values()] == [0.5, 1.0, None] and second == runs[2]
    assert independent_runs([1, 1, 1], runs) == independent_runs([None] * 3, runs) == tuple(runs)
    accuracy = [{"a": replace(first["a/0/0"], outcomes={ACCURACY: yes})} for yes in (True, None)]
    assert mean_run(accuracy)["a"].outcomes == {ACCURACY: 0.5}  # a question without an answer is wrong
