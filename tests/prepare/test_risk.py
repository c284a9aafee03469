"""The risk function: bounds, antisymmetry, undefined values, uncertainty, published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from moe_cli.prepare.risk import (
    ClusterCounts,
    bootstrap_interval,
    cluster_counts,
    permutation_p_values,
    pooled,
    pooled_swapped,
    rate_difference,
    risk_differences,
)
from moe_cli.records import RoutingCounts

# SteerMoE (arXiv 2509.09660), OLMoE-1B-7B-0125-Instruct, safety, layer 0: a1, a2, d1, d2 and the published value.
PUBLISHED = (
    (0, 341, 8044, 64670, 369124, -0.01608209986866184),
    (1, 2663, 47882, 62348, 329286, -0.08598908637126354),
    (2, 10006, 38296, 55005, 338872, 0.05237675962336269),
    (6, 52998, 210040, 12013, 167128, 0.25832876992580955),
    (9, 1940, 84458, 63071, 292710, -0.19408563440425133),
)


def counts_of(pairs: int, layers: int = 2, experts: int = 8, top_k: int = 2, seed: int = 0, shift: float = 0.0):
    """Random but consistent counts; `shift` favours expert 0 of every layer on the unsafe side."""
    random = np.random.default_rng(seed)
    seen = random.integers(5, 20, size=(pairs, 2, 3))
    routed = np.zeros((pairs, 2, 3, layers, experts), dtype=np.int64)
    for pair, side, region, layer in np.ndindex(pairs, 2, 3, layers):
        weights = np.ones(experts)
        weights[0] += shift * side
        for _ in range(seen[pair, side, region]):
            chosen = random.choice(experts, size=top_k, replace=False, p=weights / weights.sum())
            routed[pair, side, region, layer, chosen] += 1
    names = tuple(f"pair-{number}" for number in range(pairs))
    return RoutingCounts(
        layers=tuple(range(1, layers + 1)), top_k=top_k, pair_ids=names, clusters=names, routed=routed, seen=seen
    )


def swapped(counts: RoutingCounts) -> RoutingCounts:
    return RoutingCounts(
        layers=counts.layers,
        top_k=counts.top_k,
        pair_ids=counts.pair_ids,
        clusters=counts.clusters,
        routed=counts.routed[:, ::-1].copy(),
        seen=counts.seen[:, ::-1].copy(),
    )


def test_the_published_risk_differences_come_out():
    # Side 1 of the publication is the first rate, so it takes the place of our unsafe side.
    columns = [np.array(column, dtype=float) for column in zip(*PUBLISHED, strict=True)]
    _, a1, a2, d1, d2, published = columns
    assert rate_difference(a2, a2 + d2, a1, a1 + d1) == pytest.approx(published, abs=1e-9)


def test_a_side_without_tokens_is_undefined_and_never_zero():
    difference = rate_difference(np.array([3.0]), np.array([5.0]), np.array([0.0]), np.array([0.0]))
    assert np.isnan(difference).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_risk_differences_lie_between_minus_one_and_one_and_change_sign_when_sides_are_swapped(seed):
    counts = counts_of(6, seed=seed)
    batches = [[0, 1, 2], [3, 4, 5]]
    there = risk_differences(counts, batches, resamples=20, seed=1)
    back = risk_differences(swapped(counts), batches, resamples=20, seed=1)
    for name in ("per_batch", "mean", "pooled"):
        one, other = getattr(there, name), getattr(back, name)
        assert np.all(np.abs(one) <= 1)
        assert one == pytest.approx(-other, abs=1e-12)


def test_the_mean_is_over_batches_and_the_pooled_value_over_counts():
    counts = counts_of(4, seed=3)
    found = risk_differences(counts, [[0], [1, 2, 3]], resamples=10, seed=0)
    assert found.mean == pytest.approx(found.per_batch.mean(0))
    routed, seen = counts.routed[:, :, 0].sum(0), counts.seen[:, :, 0].sum(0)
    assert found.pooled == pytest.approx(routed[1] / seen[1] - routed[0] / seen[0])


def test_only_answer_tokens_count():
    counts = counts_of(4, seed=4)
    before = risk_differences(counts, [[0, 1, 2, 3]], resamples=5, seed=0).pooled
    counts.routed[:, :, 1:] = 0
    counts.seen[:, :, 1:] = 0
    assert np.array_equal(risk_differences(counts, [[0, 1, 2, 3]], resamples=5, seed=0).pooled, before)


def test_pairs_of_one_goal_are_resampled_together():
    counts = counts_of(4)
    grouped = RoutingCounts(
        layers=counts.layers,
        top_k=counts.top_k,
        pair_ids=counts.pair_ids,
        clusters=("a", "a", "b", "b"),
        routed=counts.routed,
        seen=counts.seen,
    )
    clusters = cluster_counts(grouped, [0, 1, 2, 3])
    assert clusters.seen_SC.shape == (2, 2)
    assert np.array_equal(clusters.seen_SC[:, 0], counts.seen[:2, :, 0].sum(0))


def test_swapping_no_cluster_is_the_pooled_value_and_swapping_all_is_its_negative():
    clusters = cluster_counts(counts_of(5), range(5))
    value = pooled(clusters, np.ones((1, 5)))
    assert pooled_swapped(clusters, np.zeros((1, 5))) == pytest.approx(value)
    assert pooled_swapped(clusters, np.ones((1, 5))) == pytest.approx(-value)


def test_the_bootstrap_interval_agrees_with_resampling_by_hand():
    clusters = cluster_counts(counts_of(12, seed=5), range(12))
    lower, upper = bootstrap_interval(clusters, 2000, np.random.default_rng(0))
    random = np.random.default_rng(9)
    by_hand = []
    for _ in range(2000):
        drawn = random.integers(0, 12, size=12)
        routed, seen = clusters.routed_SCX[:, drawn].sum(1), clusters.seen_SC[:, drawn].sum(1)
        by_hand.append(routed[1] / seen[1] - routed[0] / seen[0])
    expected = np.quantile(by_hand, [0.025, 0.975], axis=0)
    assert lower == pytest.approx(expected[0], abs=0.02)
    assert upper == pytest.approx(expected[1], abs=0.02)


def test_without_a_difference_few_p_values_are_small_and_with_one_the_planted_expert_is_found():
    small = 0
    for seed in range(8):
        found = risk_differences(counts_of(16, seed=seed), [range(16)], resamples=400, seed=seed)
        small += int((found.p_value < 0.05).sum())
    assert small <= 0.12 * 8 * 16
    planted = risk_differences(counts_of(16, seed=1, shift=4.0), [range(16)], resamples=400, seed=1)
    assert (planted.q_value[:, 0] < 0.05).all()
    assert (planted.lower[:, 0] > 0).all()


def test_p_values_are_never_zero_and_q_values_are_benjamini_hochberg():
    found = risk_differences(counts_of(8, seed=2, shift=6.0), [range(8)], resamples=99, seed=0)
    assert found.p_value.min() >= 1 / 100
    assert found.q_value.ravel() == pytest.approx(false_discovery_control(found.p_value.ravel()))


def test_an_undefined_expert_has_no_p_value():
    counts = ClusterCounts(np.zeros((2, 3, 4)), np.zeros((2, 3)), 1, 4)
    value = pooled(counts, np.ones((1, 3)))[0]
    assert np.isnan(permutation_p_values(counts, value, 20, np.random.default_rng(0))).all()
