"""Clusters of unequal sizes: exact for the working model, stable where one outweighs all others."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_cli.stats.clusters import cluster_mean, effective_number

SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=12)


def exact(sums, sizes):
    """Variance of the mean and its degrees of freedom, in fractions, from the whole matrix O."""
    n, places = sum(sizes), range(len(sizes))
    w, q = [Fraction(size, n) for size in sizes], sum(size**2 for size in sizes)
    o = [
        [
            (sizes[c] ** 2 if c == d else 0) - w[d] * sizes[c] ** 2 - w[c] * sizes[d] ** 2 + q * w[c] * w[d]
            for d in places
        ]
        for c in places
    ]
    trace, squares = sum(o[c][c] for c in places), sum(value**2 for row in o for value in row)
    mean = Fraction(sum(sums), n)
    spread = sum((d - mean * size) ** 2 for d, size in zip(sums, sizes, strict=True))
    return float(spread * q / trace / n**2), float(trace**2 / squares)


@given(SIZES, st.randoms())
def test_variance_and_freedom_are_those_of_the_whole_matrix(sizes, random):
    sums = [random.randint(-size, size) for size in sizes]
    found = cluster_mean(np.array(sums, float), np.array(sizes, float))
    assert (found.variance, found.freedom) == pytest.approx(exact(sums, sizes), rel=1e-9)


def test_a_giant_beside_many_is_told_to_the_last_digits():
    sizes, sums = [10**7] + [1] * 50, [10**6] + [1, 0] * 25
    found = cluster_mean(np.array(sums, float), np.array(sizes, float))
    assert (found.variance, found.freedom) == pytest.approx(exact(sums, sizes), rel=1e-9)


@given(st.integers(1, 50), st.lists(st.integers(-3, 3), min_size=2, max_size=30))
def test_clusters_of_one_size_have_one_less_degree_of_freedom(size, sums):
    num, values = len(sums), np.array(sums, float)
    found = cluster_mean(values, np.full(num, float(size)))
    assert found.freedom == pytest.approx(num - 1)
    assert found.variance == pytest.approx(values.var(ddof=1) / num / size**2)
    assert effective_number(np.full(num, size)) == pytest.approx(num)


def test_a_thousand_variants_of_one_goal_beside_fifty_goals_are_worth_hardly_more_than_one():
    assert effective_number(np.array([1000] + [1] * 50)) == pytest.approx(1050**2 / (1000**2 + 50))
