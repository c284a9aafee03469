"""How far runs of one arm differ: nothing from one run, analysis of variance from several, mirrored exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from moe_cli.compare.intervals import NO_SPREAD, cluster_interval, rate_interval
from moe_cli.compare.seeds import ArmSums, run_spread
from moe_cli.compare.significance import LEVEL

SIZES = np.full(6, 3)


def yes(runs):
    return arrays(np.int64, (runs, 6), elements=st.integers(0, 3))


def arm(yes_RC, *, seeded=True):
    return ArmSums(np.asarray(yes_RC), seeded)


def test_one_run_each_adds_nothing():
    assert run_spread([arm([[1, 2, 0, 3, 1, 1]]), arm([[0, 2, 0, 3, 1, 1]])], SIZES) == NO_SPREAD


@given(yes(3), yes(2))
def test_swapping_the_arms_changes_nothing(a, b):
    assert run_spread([arm(a), arm(b)], SIZES) == run_spread([arm(b), arm(a)], SIZES)


@given(yes(3), yes(3))
def test_two_arms_add_what_either_shows(a, b):
    spreads = [run_spread([arm(one)], SIZES) for one in (a, b)]
    both = run_spread([arm(a), arm(b)], SIZES)
    assert both.uncertainty == pytest.approx(sum(one.uncertainty for one in spreads))
    assert both.variance <= sum(one.variance for one in spreads) + 1e-12


def test_it_is_the_two_way_analysis_of_variance():
    # 2 runs x 2 clusters of 4 items: rates 5/8 and 1/8. Residuals are 4-3-2=-1 and 1-0+... : +-0.5 in all four cells.
    found = run_spread([arm([[4, 1], [1, 0]])], np.array([4, 4]))
    total = np.var([5 / 8, 1 / 8], ddof=1)
    residual = 4 * 0.5**2 * 2 / (8**2 * 1)
    assert found.variance == pytest.approx((total - residual) / 2)
    assert found.uncertainty == pytest.approx((total / 2) ** 2)
    assert found.step == 0.5


def test_runs_that_differ_by_chance_alone_add_little():
    random = np.random.default_rng(0)
    alike = random.binomial(3, 0.4, (5, 200))
    apart = random.binomial(3, np.linspace(0.2, 0.6, 5)[:, None], (5, 200))
    sizes = np.full(200, 3)
    assert run_spread([arm(alike)], sizes).variance < 1e-4
    assert run_spread([arm(apart)], sizes).variance > 2e-3


def test_an_arm_with_one_seed_is_taken_to_vary_like_the_other_and_the_base_not_at_all():
    several, one = arm([[3, 3, 2, 3, 3, 3], [0, 1, 0, 0, 1, 0], [1, 1, 1, 2, 1, 1]]), [[1, 1, 1, 1, 1, 1]]
    borrowed = run_spread([several, arm(one)], SIZES)
    base = run_spread([several, arm(one, seeded=False)], SIZES)
    assert borrowed.variance == pytest.approx(4 * base.variance)  # 1/3 + 1 instead of 1/3
    assert base.variance == run_spread([several], SIZES).variance


@given(yes(3), yes(2))
def test_the_p_is_below_5_percent_exactly_where_the_interval_excludes_zero(a, b):
    spread = run_spread([arm(a), arm(b)], SIZES)
    found = cluster_interval(b.mean(0) - a.mean(0), SIZES, spread)
    assert (found.p_value < LEVEL) == (not found.lower <= 0 <= found.upper)


@given(yes(3))
def test_the_interval_of_a_rate_holds_the_rate_and_mirrors_with_the_answers(a):
    spread = run_spread([arm(a)], SIZES)
    low, high = rate_interval(a.mean(0), SIZES, spread)
    assert 0 <= low <= a.mean() / 3 <= high <= 1
    mirrored = rate_interval((3 - a).mean(0), SIZES, spread)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)
