"""The interval of a paired difference: mirrored exactly, never of width zero, equal to its references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t
from statsmodels.regression.linear_model import OLS

from moe_cli.stats.clusters import ItemMoments, item_moments
from moe_cli.stats.intervals import cluster_interval

CLUSTERS = st.lists(
    st.integers(1, 5).flatmap(lambda n: st.tuples(st.integers(-n, n), st.just(n))), min_size=1, max_size=40
)


def arrays(clusters):
    return np.array([d for d, _ in clusters], dtype=np.int64), np.array([n for _, n in clusters], dtype=np.int64)


@given(CLUSTERS)
def test_swapping_the_runs_mirrors_the_interval_exactly(clusters):
    differences, sizes = arrays(clusters)
    forward, backward = cluster_interval(differences, sizes), cluster_interval(-differences, sizes)
    assert (forward.lower, forward.upper) == (-backward.upper, -backward.lower)
    assert (forward.error, forward.freedom) == (backward.error, backward.freedom)


@given(CLUSTERS)
def test_the_interval_holds_the_difference_and_has_a_width(clusters):
    differences, sizes = arrays(clusters)
    found = cluster_interval(differences, sizes)
    assert -1 <= found.lower <= differences.sum() / sizes.sum() <= found.upper <= 1
    assert found.upper - found.lower > 0 < found.error


@given(CLUSTERS, st.randoms())
def test_the_order_of_clusters_does_not_matter(clusters, generator):
    shuffled = generator.sample(clusters, len(clusters))
    assert cluster_interval(*arrays(shuffled)) == cluster_interval(*arrays(clusters))


@pytest.mark.parametrize("size", [1, 3])
def test_it_is_the_cluster_robust_interval_of_a_regression_with_two_more_clusters(size):
    items = np.random.default_rng(0).integers(-1, 2, (30, size))
    found = cluster_interval(items.sum(1), np.full(30, size))
    values = np.concatenate([items.ravel(), np.repeat([1, -1], size)])
    groups = np.repeat(np.arange(32), size)
    fit = OLS(values.astype(float), np.ones((len(values), 1))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    half = t.ppf(0.975, 31) * fit.bse[0] * np.sqrt(32 / 31)
    assert (found.lower, found.upper) == pytest.approx((fit.params[0] - half, fit.params[0] + half))


def test_it_agrees_with_the_bootstrap_over_clusters_where_there_are_many():
    generator = np.random.default_rng(1)
    sizes = np.full(1000, 3)
    differences = generator.binomial(3, 0.3, 1000) - generator.binomial(3, 0.2, 1000)
    found = cluster_interval(differences, sizes)
    drawn = generator.integers(0, 1000, (4000, 1000))
    low, high = np.quantile(differences[drawn].sum(axis=1) / 3000, [0.025, 0.975])
    assert (found.lower, found.upper) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_items_that_move_together_widen_the_interval():
    apart = cluster_interval(np.array([-1] * 30 + [0] * 60), np.ones(90, dtype=np.int64))
    together = cluster_interval(np.array([-3] * 10 + [0] * 20), np.full(30, 3))
    assert together.upper - together.lower > 1.5 * (apart.upper - apart.lower)


def test_two_runs_that_agree_on_100_items_can_still_differ():
    found = cluster_interval(np.zeros(100, dtype=np.int64), np.ones(100, dtype=np.int64))
    assert (found.lower, found.upper) == pytest.approx((-0.02764, 0.02764), abs=1e-4)


@pytest.mark.parametrize(("rate_a", "rate_b", "per_cluster"), [(0.5, 0.3, 1), (0.2, 0.1, 1), (0.5, 0.3, 3)])
def test_about_95_of_100_intervals_hold_the_truth(rate_a, rate_b, per_cluster):
    generator = np.random.default_rng(2)
    num_clusters = 120 // per_cluster
    hits = 0
    for _ in range(1000):
        # One number per goal moves all its variants in both runs: items of a cluster are not independent.
        goal = generator.uniform(-0.1, 0.1, (num_clusters, 1))
        a = generator.random((num_clusters, per_cluster)) < rate_a + goal
        b = generator.random((num_clusters, per_cluster)) < rate_b + goal
        differences = (b.astype(np.int64) - a).sum(axis=1)
        found = cluster_interval(
            differences, np.full(num_clusters, per_cluster), items=item_moments(b.astype(np.int64) - a)
        )
        hits += found.lower <= rate_b - rate_a <= found.upper
    assert 930 <= hits <= 970


def covered(differences_XC, sizes, truth):
    """Shares of draws whose interval holds the truth, and whose interval is within 2 points without holding it.

    All items of a goal fail or do not, so that the squared differences are the differences.
    """
    found = [
        cluster_interval(drawn, sizes, items=ItemMoments(votes=sizes.sum(), sums=drawn.sum(), squares=drawn.sum()))
        for drawn in differences_XC
    ]
    return (
        np.mean([one.lower <= truth <= one.upper for one in found]),
        np.mean([one.lower >= -0.02 and one.upper <= 0.02 for one in found]),
    )


# Single pseudo-items covered .676, .650, .808, .953 of these, and said "within 2 points" of .323, .349, .192, .043.
@pytest.mark.parametrize(
    ("num_goals", "size", "share"), [(10, 100, 0.1), (20, 50, 0.05), (30, 20, 0.05), (100, 4, 0.03)]
)
def test_goals_that_fail_with_all_their_variants_are_no_more_facts_than_goals(num_goals, size, share):
    fails_XC = np.random.default_rng(3).random((1500, num_goals)) < share
    holds, small = covered(fails_XC * size, np.full(num_goals, size), share)
    assert holds >= 0.94
    assert small == 0


# One giant goal beside 50 covered .027 (of 1000) and .751 (of 50).
@pytest.mark.parametrize("giant", [50, 1000])
def test_a_giant_goal_is_one_fact(giant):
    sizes = np.array([giant] + [1] * 50)
    fails_XC = np.random.default_rng(4).random((1500, 51)) < 0.1
    assert covered(fails_XC * sizes, sizes, 0.1)[0] >= 0.99


def test_independent_items_of_a_goal_cost_no_more_than_they_have_to():
    random = np.random.default_rng(5)
    items = (random.random((200, 3)) < 0.4).astype(np.int64) - (random.random((200, 3)) < 0.4)
    alone = cluster_interval(items.ravel(), np.ones(600, dtype=np.int64))
    known = cluster_interval(items.sum(1), np.full(200, 3), items=item_moments(items))
    assert known.upper - known.lower == pytest.approx(alone.upper - alone.lower, rel=0.1)
