"""Intervals and stability agree with what numpy and resampling by hand give."""

from __future__ import annotations

import numpy as np
import pytest

from moe_cli.prepare.ranking import largest
from moe_cli.prepare.risk import cluster_counts
from moe_cli.prepare.uncertainty import (
    CHUNK_RESAMPLES,
    batch_interval,
    bootstrap_values,
    bootstrap_weights,
    interval,
    resample,
)
from moe_cli.stats.clusters import cluster_draws
from tests.prepare.simulated import counts_of


@pytest.mark.parametrize("resamples", [1, 2, 39, 40, 41, 1000])
def test_percentiles_are_those_of_numpy(resamples):
    values = np.random.default_rng(resamples).normal(size=(resamples, 300))
    expected = np.quantile(values, [0.025, 0.975], axis=0)
    assert interval(values) == pytest.approx(expected, abs=1e-12)


def test_an_interval_is_undefined_where_a_resample_is():
    values = np.zeros((50, 3))
    values[7, 1] = np.nan
    assert np.isnan(interval(values)).tolist() == [[False, True, False]] * 2


def test_the_interval_agrees_with_resampling_by_hand():
    clusters = cluster_counts(counts_of(12, seed=5), range(12))
    lower, upper = interval(bootstrap_values(clusters, 2000, np.random.default_rng(0)))
    random = np.random.default_rng(9)
    by_hand = []
    for _ in range(2000):
        drawn = random.integers(0, 12, size=12)
        routed, seen = clusters.routed_SCX[:, drawn].sum(1), clusters.seen_SC[:, drawn].sum(1)
        by_hand.append(routed[1] / seen[1] - routed[0] / seen[0])
    expected = np.quantile(by_hand, [0.025, 0.975], axis=0)
    assert lower == pytest.approx(expected[0], abs=0.02)
    assert upper == pytest.approx(expected[1], abs=0.02)


def test_the_interval_of_a_batch_is_that_of_the_same_resamples_kept():
    clusters = cluster_counts(counts_of(8, experts=200, seed=1), range(8))
    kept = interval(bootstrap_values(clusters, 250, np.random.default_rng(3)))
    assert batch_interval(clusters, 250, np.random.default_rng(3)) == pytest.approx(kept, abs=1e-12)


def test_stability_is_the_share_of_resamples_that_the_rule_takes():
    clusters = cluster_counts(counts_of(24, shift=4.0), range(24))
    again = resample(clusters, 300, np.random.default_rng(0), lambda values: largest(values, 2))
    assert again.stability_X.sum() == pytest.approx(2.0)
    assert again.stability_X[[0, 8]].min() > 0.95
    assert np.delete(again.stability_X, [0, 8]).max() < 0.3


@pytest.mark.parametrize("sizes", [(5,), (300,), (300, 7)])
def test_draws_in_chunks_are_those_of_one_go_in_the_smallest_type_that_holds_them(sizes):
    resamples = 2 * CHUNK_RESAMPLES + 3
    weights = bootstrap_weights(sizes, resamples, np.random.default_rng(3))
    random = np.random.default_rng(3)
    assert np.array_equal(weights, np.hstack([cluster_draws(size, resamples, random) for size in sizes]))
    assert weights.dtype == (np.uint8 if max(sizes) < 256 else np.uint16)
