"""The risk function: bounds, antisymmetry, undefined values, published numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_cli.errors import UsageError
from moe_cli.prepare.risk import (
    ClusterCounts,
    cluster_counts,
    counts_of_part,
    pooled,
    pooled_swapped,
    rate_difference,
    reasoning_share,
)
from moe_cli.records import ReasoningCounts
from tests.prepare.replayed import replayed, with_reasoning
from tests.prepare.simulated import counts_of, measured, swapped

# SteerMoE (arXiv 2509.09660), OLMoE-1B-7B-0125-Instruct, safety, layer 0: a1, a2, d1, d2 and the published value.
PUBLISHED = (
    (0, 341, 8044, 64670, 369124, -0.01608209986866184),
    (1, 2663, 47882, 62348, 329286, -0.08598908637126354),
    (2, 10006, 38296, 55005, 338872, 0.05237675962336269),
    (6, 52998, 210040, 12013, 167128, 0.25832876992580955),
    (9, 1940, 84458, 63071, 292710, -0.19408563440425133),
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
    there = measured(counts, batches, seed=1)
    back = measured(swapped(counts), batches, seed=1)
    for name in ("per_batch", "mean", "pooled"):
        one, other = getattr(there, name), getattr(back, name)
        assert np.all(np.abs(one) <= 1)
        assert one == pytest.approx(-other, abs=1e-12)


def test_the_mean_is_over_batches_and_the_pooled_value_over_counts():
    counts = counts_of(4, seed=3)
    found = measured(counts, [[0], [1, 2, 3]])
    assert found.mean == pytest.approx(found.per_batch.mean(0))
    routed, seen = counts.routed.sum(0), counts.seen.sum(0)
    assert found.pooled == pytest.approx(routed[1] / seen[1] - routed[0] / seen[0])


def test_pairs_of_one_goal_are_resampled_together():
    counts = counts_of(4)
    grouped = dataclasses.replace(counts, clusters=("a", "a", "b", "b"))
    clusters = cluster_counts(grouped, [0, 1, 2, 3])
    assert clusters.seen_SC.shape == (2, 2)
    assert np.array_equal(clusters.seen_SC[:, 0], counts.seen[:2].sum(0))


def test_swapping_no_cluster_is_the_pooled_value_and_swapping_all_is_its_negative():
    clusters = cluster_counts(counts_of(5), range(5))
    value = pooled(clusters, np.ones((1, 5)))
    assert pooled_swapped(clusters, np.zeros((1, 5))) == pytest.approx(value)
    assert pooled_swapped(clusters, np.ones((1, 5))) == pytest.approx(-value)


def test_one_product_gives_the_rates_that_dividing_summed_counts_gives():
    clusters = cluster_counts(counts_of(7, seed=2), range(7))
    weights = np.random.default_rng(0).integers(0, 3, size=(5, 7)).astype(float)
    routed = np.einsum("rc,scx->srx", weights, clusters.routed_SCX)
    seen = np.einsum("rc,sc->sr", weights, clusters.seen_SC)[..., None]
    assert pooled(clusters, weights) == pytest.approx(routed[1] / seen[1] - routed[0] / seen[0], abs=1e-14)


def test_resamples_and_swaps_that_leave_a_side_without_tokens_are_undefined():
    clusters = ClusterCounts(np.ones((2, 2, 3)), np.array([[0.0, 4.0], [4.0, 4.0]]))
    assert np.isnan(pooled(clusters, np.array([[2.0, 0.0]]))).all()
    assert np.isfinite(pooled(clusters, np.array([[1.0, 1.0]]))).all()
    alone = ClusterCounts(np.ones((2, 1, 3)), np.array([[0.0], [4.0]]))
    assert np.isnan(pooled_swapped(alone, np.array([[0.0], [1.0]]))).all()


def test_every_batch_of_two_goals_or_more_has_an_interval_around_its_value():
    found = measured(counts_of(7, seed=3), [range(6), [6]], resamples=400)
    assert (found.batch_lower[0] <= found.per_batch[0]).mean() > 0.95
    assert (found.per_batch[0] <= found.batch_upper[0]).mean() > 0.95
    assert np.isnan(found.batch_lower[1]).all() and np.isnan(found.batch_upper[1]).all()


def test_the_parts_of_the_answers_are_counted_apart_and_sum_to_the_whole():
    counts = with_reasoning(replayed(6, text=1, prompt=1, harmless=4))
    spoken, reasoning = (counts_of_part(counts, part) for part in ("spoken", "reasoning"))
    assert counts_of_part(counts, "whole") is counts
    for name in ("routed", "seen", "gates"):
        parts = [getattr(part, name) for part in (spoken, reasoning)]
        assert np.array_equal(parts[0] + parts[1], getattr(counts, name)), name
        assert np.array_equal(parts[1], getattr(counts.reasoning, name)), name
    assert np.array_equal(spoken.crossed + reasoning.crossed, counts.crossed)
    assert np.array_equal(reasoning.crossed, counts.reasoning.crossed)
    for name in ("routed", "seen"):
        parts = [getattr(part.harmless, name) for part in (spoken, reasoning)]
        assert np.array_equal(parts[0] + parts[1], getattr(counts.harmless, name))
    assert np.array_equal(reasoning.harmless.routed, counts.reasoning.harmless)
    assert spoken.routed.shape == (6, 2, 1, 8)


def test_a_part_is_refused_where_no_reasoning_was_counted_and_the_whole_is_not():
    counts = replayed(3)
    for part in ("spoken", "reasoning"):
        with pytest.raises(UsageError, match=f"the {part} part of the answers is asked for") as caught:
            counts_of_part(counts, part)
        assert "--answer-part whole" in caught.value.hint
    zeros = {name: np.zeros_like(getattr(counts, name)) for name in ("routed", "seen", "gates")}
    nothing = ReasoningCounts(**zeros, crossed=None, harmless=None, harmless_seen=None)
    counted = dataclasses.replace(counts, crossed=None, reasoning=nothing)
    assert np.array_equal(counts_of_part(counted, "spoken").routed, counts.routed)
    with pytest.raises(UsageError, match="no answer holds any"):
        counts_of_part(counted, "reasoning")
    assert reasoning_share(counted) == reasoning_share(counts) == 0.0
    some = with_reasoning(counts)
    assert reasoning_share(some) == some.reasoning.seen.sum() / counts.seen.sum() > 0
