"""Selection: the rule, its ties, its budget, and what it selects from noise."""

from __future__ import annotations

import numpy as np
import pytest

from moe_cli.prepare.risk import risk_differences
from moe_cli.prepare.selection import Chosen, Rule, as_experts, as_masks, choose, null_union, stability
from moe_cli.records import Expert, RiskDifferences
from tests.prepare.test_risk import counts_of


def risk_of(per_batch, pooled) -> RiskDifferences:
    per_batch, pooled = np.array(per_batch, dtype=float), np.array(pooled, dtype=float)
    nothing = np.zeros_like(pooled)
    return RiskDifferences(
        layers=tuple(range(pooled.shape[0])),
        per_batch=per_batch,
        mean=per_batch.mean(0),
        pooled=pooled,
        lower=nothing,
        upper=nothing,
        p_value=nothing,
        q_value=nothing,
        num_resamples=1,
    )


def rule(method="risk_diff", threshold=0.05, top_k=50, max_candidates=4, named=()) -> Rule:
    return Rule(method, threshold, top_k, max_candidates, named)


POOLED = [[0.3, 0.2, 0.06, 0.05], [-0.3, 0.2, 0.1, 0.0]]
PER_BATCH = [[[0.4, 0.1, 0.0, 0.9], [0.0, 0.2, 0.1, 0.0]], [[0.2, -0.1, 0.1, 0.9], [0.9, 0.2, np.nan, 0.0]]]


def test_candidates_are_the_largest_pooled_values_above_the_threshold_within_the_budget():
    chosen = choose(rule(max_candidates=3), risk_of(PER_BATCH, POOLED), seed=0)
    assert chosen.candidates == (0, 1, 5)
    assert choose(rule(max_candidates=9), risk_of(PER_BATCH, POOLED), seed=0).candidates == (0, 1, 2, 5, 6)


def test_a_value_equal_to_the_threshold_is_no_candidate():
    assert 3 not in choose(rule(max_candidates=9), risk_of(PER_BATCH, POOLED), seed=0).candidates


def test_a_batch_selects_candidates_with_a_positive_value_in_that_batch_and_never_an_undefined_one():
    chosen = choose(rule(max_candidates=9), risk_of(PER_BATCH, POOLED), seed=0)
    assert chosen.batches == ((0, 1, 5, 6), (0, 2, 5))
    assert chosen.union == (0, 1, 2, 5, 6)


def test_a_batch_selects_at_most_top_k():
    chosen = choose(rule(max_candidates=9, top_k=2), risk_of(PER_BATCH, POOLED), seed=0)
    assert chosen.batches == ((0, 5), (0, 5))


def test_ties_go_to_the_lower_layer_then_the_lower_index():
    equal = [[0.2, 0.2], [0.2, 0.2]]
    assert choose(rule(max_candidates=3), risk_of([equal], equal), seed=0).candidates == (0, 1, 2)


def test_without_a_budget_the_original_rule_takes_each_batch_s_largest_above_the_threshold():
    chosen = choose(rule(max_candidates=None, top_k=2), risk_of(PER_BATCH, POOLED), seed=0)
    assert chosen.batches == ((0, 3), (3, 4))


def test_random_draws_as_many_per_layer_as_the_risk_differences_would():
    found = risk_of(PER_BATCH, POOLED)
    by_risk = choose(rule(max_candidates=3), found, seed=0).candidates
    drawn = [choose(rule("random", max_candidates=3), found, seed=seed).candidates for seed in range(8)]
    for candidates in drawn:
        assert np.bincount([i // 4 for i in candidates], minlength=2).tolist() == [2, 1]
    assert len(set(drawn)) > 1
    assert choose(rule("random", max_candidates=3), found, seed=3).candidates == drawn[3]
    assert by_risk == (0, 1, 5)


def test_all_selects_every_expert_in_every_batch():
    chosen = choose(rule("all"), risk_of(PER_BATCH, POOLED), seed=0)
    assert chosen.batches == (tuple(range(8)),) * 2


def test_a_file_names_the_candidates_and_batches_choose_among_them():
    chosen = choose(rule("file", named=(3, 7)), risk_of(PER_BATCH, POOLED), seed=0)
    assert chosen.candidates == (3, 7)
    assert chosen.batches == ((3,), (3,))


def test_masks_hold_exactly_the_selected_experts():
    masks = as_masks(Chosen((0, 5), ((0, 5), ())), 2, 4)
    assert masks.shape == (2, 2, 4)
    assert np.argwhere(masks).tolist() == [[0, 0, 0], [0, 1, 1]]


def test_flat_indices_become_decoder_layer_and_index():
    assert as_experts([0, 5], layers=(3, 7), num_experts=4) == (Expert(layer=3, index=0), Expert(layer=7, index=1))


def test_the_union_found_in_noise_is_about_as_large_as_the_null_union():
    sizes, nulls = [], []
    for seed in range(5):
        counts = counts_of(24, experts=16, seed=seed)
        batches = [range(start, start + 6) for start in range(0, 24, 6)]
        original = rule(max_candidates=None, threshold=0.05, top_k=8)
        found = risk_differences(counts, batches, resamples=5, seed=seed)
        sizes.append(len(choose(original, found, seed=0).union))
        nulls.append(null_union(original, counts, batches, draws=30, seed=seed).mean)
    assert np.mean(sizes) == pytest.approx(np.mean(nulls), rel=0.25)


def test_a_planted_expert_is_stable_and_noise_is_not():
    counts = counts_of(24, shift=4.0, seed=0)
    share = stability(rule(max_candidates=2), counts, [range(24)], resamples=60, seed=0)
    assert share[[0, 8]].min() > 0.95
    assert np.delete(share, [0, 8]).max() < 0.3


def test_the_null_union_of_a_clear_difference_is_smaller_than_the_union():
    counts = counts_of(24, shift=5.0, seed=0)
    found = risk_differences(counts, [range(24)], resamples=5, seed=0)
    strict = rule(max_candidates=2, threshold=0.1)
    assert len(choose(strict, found, seed=0).union) == 2
    assert null_union(strict, counts, [range(24)], draws=40, seed=0).mean < 1.0
