"""p-values are those of all swaps; q-values are Benjamini-Hochberg; few swaps are never the reason to find nothing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from moe_cli.prepare.permutation import most_draws, p_values, q_values, smallest_p
from moe_cli.prepare.risk import ClusterCounts, cluster_counts, pooled, pooled_swapped
from tests.prepare.simulated import counts_of, measured


def all_swaps(clusters: ClusterCounts) -> np.ndarray:
    """The exact p-values, from every pattern of swaps."""
    patterns = np.array(list(product((0.0, 1.0), repeat=clusters.num_clusters)))
    value = pooled(clusters, np.ones((1, clusters.num_clusters)))
    return (np.abs(pooled_swapped(clusters, patterns)) >= np.abs(value) - 1e-12).mean(0)


def test_p_values_are_those_of_all_patterns_of_swaps():
    clusters = cluster_counts(counts_of(10, shift=1.5, seed=1), range(10))
    value = pooled(clusters, np.ones((1, 10)))
    p, _ = p_values(clusters, value, 20_000, np.random.default_rng(0))
    assert p[0] == pytest.approx(all_swaps(clusters), abs=0.012)


def test_without_a_difference_few_p_values_are_small_and_with_one_the_planted_expert_is_found():
    small = 0
    for seed in range(8):
        found = measured(counts_of(16, seed=seed), [range(16)], resamples=400, seed=seed)
        small += int((found.p_value < 0.05).sum())
    assert small <= 0.12 * 8 * 16
    planted = measured(counts_of(16, seed=1, shift=4.0), [range(16)], resamples=400, seed=1)
    assert (planted.q_value[:, 0] < 0.05).all()
    assert (planted.lower[:, 0] > 0).all()


def test_one_strong_expert_among_many_is_found_although_the_first_swaps_are_too_few_for_it():
    random = np.random.default_rng(0)
    routed = random.integers(4, 9, size=(2, 30, 500)).astype(float)
    routed[1, :, 7] += 20
    clusters = ClusterCounts(routed, np.full((2, 30), 100.0))
    p, draws = p_values(clusters, pooled(clusters, np.ones((1, 30))), 200, random)
    q = q_values(p)[0]
    assert draws > 200 and draws <= 2 * most_draws(500)
    assert q[7] < 0.05 and np.delete(q, 7).min() > 0.05
    assert 500 / 201 > 1  # with the first swaps alone its q-value would have been 1


def test_p_values_are_never_zero_and_q_values_are_benjamini_hochberg():
    found = measured(counts_of(8, seed=2, shift=6.0), [range(8)], resamples=99)
    assert found.p_value.min() >= 1 / (1 + found.num_permutations)
    assert found.q_value.ravel() == pytest.approx(false_discovery_control(found.p_value.ravel()))


def test_an_undefined_expert_has_no_p_value_and_changes_no_other_q_value():
    counts = ClusterCounts(np.zeros((2, 3, 4)), np.zeros((2, 3)))
    value = pooled(counts, np.ones((1, 3)))
    assert np.isnan(p_values(counts, value, 20, np.random.default_rng(0))[0]).all()
    q = q_values(np.array([[0.01, np.nan, 0.04]]))
    assert np.isnan(q[0, 1]) and q[0, [0, 2]] == pytest.approx([0.02, 0.04])


def test_no_p_value_is_smaller_than_the_patterns_and_the_swaps_allow():
    assert smallest_p(5, 10**6) == 2.0**-4
    assert smallest_p(40, 999) == 1e-3
    clusters = cluster_counts(counts_of(5, shift=50.0), range(5))
    assert all_swaps(clusters).min() >= smallest_p(5, 10**6)


def test_rows_of_values_get_the_p_values_that_each_would_get_alone():
    clusters = cluster_counts(counts_of(12, seed=4), range(12))
    rows = pooled_swapped(clusters, np.random.default_rng(1).integers(0, 2, size=(3, 12)).astype(float))
    together, _ = p_values(clusters, rows, 4000, np.random.default_rng(2))
    for row, p in zip(rows, together, strict=True):
        alone, _ = p_values(clusters, row[None], 4000, np.random.default_rng(3))
        assert p == pytest.approx(alone[0], abs=0.04)
