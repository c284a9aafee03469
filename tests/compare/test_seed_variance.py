"""How far runs of one arm differ: nothing from one run, analysis of variance from several, mirrored exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm, t

from moe_cli.stats.intervals import (
    NO_SPREAD,
    ArmSums,
    RunSpread,
    cluster_interval,
    rate_interval,
    run_spread,
    seed_spread,
)
from moe_cli.stats.significance import LEVEL

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
    one, other = (run_spread([arm(runs)], SIZES) for runs in (a, b))
    both = run_spread([arm(a), arm(b)], SIZES)
    assert both.total == pytest.approx(one.total + other.total)
    assert both.chance == pytest.approx(one.chance + other.chance)


def test_it_is_the_two_way_analysis_of_variance():
    # 2 runs x 2 clusters of 4 items: rates 5/8 and 1/8. Residuals are 4-3-2=-1 and 1-0+... : +-0.5 in all four cells.
    found = run_spread([arm([[4, 1], [1, 0]])], np.array([4, 4]))
    assert found.total == pytest.approx(np.var([5 / 8, 1 / 8], ddof=1) / 2)
    assert found.chance == pytest.approx(4 * 0.5**2 * 2 / (8**2 * 1) / 2)
    assert found.freedom == 1


def test_answers_of_runs_count_as_one_where_runs_are_alike_and_alone_where_they_are_independent():
    sizes = np.ones(2000, dtype=np.int64)
    random = np.random.default_rng(0)
    alike = np.tile(random.binomial(1, 0.3, 2000), (4, 1))
    independent = random.binomial(1, 0.3, (4, 2000))
    nearly, half = (  # of this correlation of two runs
        np.where(random.random((4, 2000)) < correlation**0.5, alike, independent) for correlation in (0.95, 0.5)
    )
    steps = [run_spread([arm(runs)], sizes).step for runs in (alike, nearly, half, independent)]
    assert steps == pytest.approx([1, (1 + 3 * 0.5) / 4, 1 / 4, 1 / 4], abs=0.06)
    # 2 runs x 2 clusters of 4: after the rates, -+1.5 and +-0.5; apart 4 x 0.5^2 / 1, all 2 x (1.5^2 + 0.5^2) / 2 + 8.
    assert run_spread([arm([[4, 1], [1, 0]])], np.array([4, 4])).step == pytest.approx((1 + (0.1 - 1 / 10.5) / 0.1) / 2)


@pytest.mark.parametrize("runs", [2, 3, 10])
def test_more_seeds_that_answer_alike_do_not_make_up_for_more_goals(runs):
    sizes = np.full(40, 3)
    nothing = np.zeros((runs, 40), dtype=np.int64)
    alone = cluster_interval(np.zeros(40), sizes, run_spread([arm(nothing[:1]), arm(nothing[:1])], sizes))
    found = cluster_interval(np.zeros(40), sizes, run_spread([arm(nothing), arm(nothing)], sizes))
    assert found.upper == pytest.approx(alone.upper, rel=0.05)


def test_degrees_of_freedom_are_satterthwaite_s_from_three_runs_on_and_added_up_with_two():
    steady, shaky = [[1] * 6, [1] * 6, [2] + [1] * 5], [[0] * 6, [3] * 6, [1] * 6]
    both = run_spread([arm(steady), arm(shaky)], SIZES)
    parts = [np.var(np.sum(runs, 1) / 18, ddof=1) / 3 for runs in (steady, shaky)]
    assert both.estimated
    assert both.freedom == pytest.approx(sum(parts) ** 2 / sum(part**2 / 2 for part in parts))
    with_two = run_spread([arm(steady), arm(shaky[:2])], SIZES)
    assert (with_two.freedom, with_two.estimated) == (3, False)
    assert run_spread([arm(steady), arm([[1] * 6])], SIZES).freedom == 2


def test_runs_that_differ_by_chance_alone_add_little():
    random = np.random.default_rng(0)
    alike = random.binomial(3, 0.4, (5, 200))
    apart = random.binomial(3, np.linspace(0.2, 0.6, 5)[:, None], (5, 200))
    sizes = np.full(200, 3)
    assert run_spread([arm(alike)], sizes).total < 3e-4
    assert run_spread([arm(apart)], sizes).total > 2e-3


def test_an_arm_with_one_seed_is_taken_to_vary_like_the_other_and_the_base_not_at_all():
    several, one = arm([[3, 3, 2, 3, 3, 3], [0, 1, 0, 0, 1, 0], [1, 1, 1, 2, 1, 1]]), [[1, 1, 1, 1, 1, 1]]
    borrowed = run_spread([several, arm(one)], SIZES)
    base = run_spread([several, arm(one, seeded=False)], SIZES)
    assert borrowed.total == pytest.approx(4 * base.total)  # 1/3 + 1 instead of 1/3
    assert base.total == run_spread([several], SIZES).total


def test_the_critical_value_rises_from_that_of_items_to_that_of_runs():
    sizes = np.full(100, 1)
    differences = np.random.default_rng(1).integers(-1, 2, 100)
    runs = {"chance": 0.0, "freedom": 2.0, "estimated": False, "step": 0.5}
    widths = []
    for total in (0.0, 1e-4, 1e-2, 1.0):
        found = cluster_interval(differences, sizes, RunSpread(total=total, **runs))
        widths.append(t.ppf(0.975, found.freedom))
    assert widths == sorted(widths)
    assert widths[0] == pytest.approx(norm.ppf(0.977), abs=1e-3)
    assert widths[-1] == pytest.approx(t.ppf(0.977, 2), rel=0.02)


def test_runs_that_agree_by_chance_leave_the_interval_a_width():
    # Every run changes its mind about half of the items, and all have one rate: the items' variance is all chance.
    swapped = np.array([[1, 0] * 50, [0, 1] * 50])
    sizes = np.ones(100, dtype=np.int64)
    found = cluster_interval(np.zeros(100), sizes, run_spread([arm(swapped), arm(swapped)], sizes))
    assert found.upper - found.lower > 0.01


@pytest.mark.parametrize(("runs", "smallest"), [((2, 2), 1 / 3), ((3, 3), 1 / 10), ((4, 4), 1 / 35), ((3, 1), 1 / 4)])
def test_exchanging_runs_reaches_its_least_p_where_the_arms_are_apart(runs, smallest):
    apart = seed_spread(np.linspace(0.1, 0.2, runs[0]), np.linspace(0.8, 0.9, runs[1]))
    assert apart.p_permuted == pytest.approx(smallest) == apart.smallest_p
    assert seed_spread(np.full(runs[0], 0.5), np.full(runs[1], 0.5)).p_permuted == 1
    assert apart.smallest_shown_p == pytest.approx(0.001 if runs == (4, 4) else smallest)


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
