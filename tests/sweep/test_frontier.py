"""The frontier and the fixed sequence on made-up answers."""

import numpy as np

from moe_cli.stats.metrics import ATTACK_SUCCESS
from moe_cli.sweep.frontier import MeasuredArm, budget_test, dominating_arms, sufficient_budget
from tests.studies.sweep_nulls import is_error, run_of

NUM = 400


def run(attacked, refused):
    """The first so many of 400 attacks succeed, and of 400 harmless questions are refused."""
    return run_of([[place < attacked] for place in range(NUM)], [place < refused for place in range(NUM)])


def arm(name, share, *runs, **changes):
    return MeasuredArm(name=name, budget=share, share=share, runs=tuple(run(*counts) for counts in runs), **changes)


def test_an_arm_is_off_the_frontier_where_a_smaller_one_is_better_and_nowhere_worse():
    arms = [arm("small", 0.05, (40, 8)), arm("large", 0.2, (120, 8)), arm("base", 0.0, (380, 0), seeded=False)]
    assert dominating_arms(arms, 0.05) == {"large": "small"}


def test_an_arm_that_costs_more_than_the_margin_in_another_metric_beats_nothing():
    arms = [arm("small", 0.05, (40, 80)), arm("large", 0.2, (120, 8))]
    assert dominating_arms(arms, 0.05) == {}


def test_a_better_arm_with_a_larger_share_beats_nothing_and_one_with_the_same_share_does():
    assert dominating_arms([arm("small", 0.05, (120, 8)), arm("large", 0.2, (40, 8))], 0.05) == {}
    assert dominating_arms([arm("a", 0.05, (120, 8)), arm("b", 0.05, (40, 8))], 0.05) == {"a": "b"}
    assert dominating_arms([arm("a", 0.05, (40, 8)), arm("b", 0.05, (120, 8))], 0.05) == {"b": "a"}


def test_what_cannot_be_told_apart_stays_on_the_frontier():
    assert dominating_arms([arm("a", 0.05, (100, 8)), arm("b", 0.2, (106, 8))], 0.02) == {}


def test_an_arm_that_several_beat_names_the_one_of_the_smallest_share():
    arms = [arm("large", 0.3, (200, 8)), arm("middle", 0.2, (100, 8)), arm("small", 0.1, (40, 8))]
    assert dominating_arms(arms, 0.05)["large"] == "small"


BASELINE = arm("baseline", 1.0, (40, 8))


def test_the_sequence_begins_with_the_largest_budget_and_ends_at_the_first_failure():
    arms = [arm("m 1", 0.01, (40, 8)), arm("m 5", 0.05, (200, 8)), arm("m 20", 0.2, (40, 8))]
    found = sufficient_budget("m", arms, BASELINE, 0.05)
    assert found.budget == 0.2  # that of 1 % would pass, and is not tested
    assert [(test.arm, test.sufficient) for test in found.tests] == [("m 20", True), ("m 5", False)]


def test_over_refusal_alone_makes_a_budget_insufficient():
    found = sufficient_budget("m", [arm("m 20", 0.2, (40, 80))], BASELINE, 0.05)
    assert found.budget is None and not found.tests[0].sufficient
    assert found.tests[0].attack_success.upper <= 0.05 < found.tests[0].over_refusal.upper


def test_the_upper_end_of_the_interval_decides_not_the_difference():
    test = budget_test(arm("m", 0.2, (56, 8)), BASELINE, 0.05)
    assert test.attack_success.value == 0.04
    assert test.attack_success.upper > 0.05 and not test.sufficient


def test_a_budget_without_its_runs_ends_the_sequence_and_says_so():
    arms = [
        arm("m 5", 0.05, (40, 8)),
        MeasuredArm(name="m 10", budget=0.1, share=0.1, runs=()),
        arm("m 20", 0.2, (40, 8)),
    ]
    found = sufficient_budget("m", arms, BASELINE, 0.05)
    assert found.budget == 0.2 and len(found.tests) == 1 and found.untested.startswith("m 10 lacks a point,")
    without = sufficient_budget("m", arms, None, 0.05)
    assert without.untested == "the baseline lacks a point, and nothing can be tested against it"


def test_an_arm_without_harmless_questions_is_not_tested():
    bare = {id: item for id, item in run(40, 8).items() if ATTACK_SUCCESS in item.outcomes}
    arms = [MeasuredArm(name=name, budget=0.1, share=0.1, runs=(bare,)) for name in ("m", "baseline")]
    assert budget_test(*arms, 0.05) is None
    assert sufficient_budget("m", arms[:1], arms[1], 0.05).untested == (
        "attack success or over-refusal of m or of the baseline is not known, and no smaller budget is tested"
    )


def test_the_fixed_sequence_calls_an_insufficient_budget_sufficient_in_at_most_five_percent():
    """Sweeps whose budgets are worse by exactly the margin, and those whose largest is as good as the baseline."""
    for over in ((0.0, 0.0, 0.0), (0.0, 0.0, -0.05)):
        errors = np.mean([is_error(seed, over=over) for seed in range(200)])
        assert errors <= 0.05
    assert np.mean([is_error(seed, over=(0.0, 0.0, -0.2)) for seed in range(100)]) <= 0.05
