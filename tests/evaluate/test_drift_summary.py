"""Drift over all texts: weighted by tokens, with intervals over whole clusters."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from moe_cli.codec import decode, encode
from moe_cli.errors import NumericError, UsageError
from moe_cli.evaluate.text_drift import summarise_drift
from moe_cli.records.drift import DriftItem, DriftSummary

NO_ROUTING = {"experts_base": ((),), "experts_tuned": ((),), "same_choices": (0,)}


def some_items(num=40, per_cluster=1, shift=0.1):
    generator = random.Random(3)
    items = []
    for number in range(num):
        tokens = generator.randint(5, 20)
        base = generator.uniform(1, 2) * tokens
        kl = tuple(generator.uniform(0, 0.2) for _ in range(tokens))
        items.append(
            DriftItem(
                id=f"text/{number:03d}",
                cluster=f"goal-{number // per_cluster}",
                num_tokens=tokens,
                nll_base=base,
                nll_tuned=base + (shift + generator.uniform(-0.05, 0.05)) * tokens,
                kl_tokens=kl,
                same_top=tokens - generator.randint(0, 2),
                **NO_ROUTING,
            )
        )
    return items


def test_drift_is_weighted_by_tokens():
    items = some_items()
    tokens = sum(item.num_tokens for item in items)
    summary = summarise_drift(items)
    gain = sum(item.nll_tuned - item.nll_base for item in items)
    assert summary.perplexity_ratio.value == pytest.approx(np.exp(gain / tokens))
    assert summary.perplexity_tuned / summary.perplexity_base == pytest.approx(summary.perplexity_ratio.value)
    all_kl = np.concatenate([item.kl_tokens for item in items])
    assert summary.kl_mean.value == pytest.approx(all_kl.mean())
    assert summary.kl_99 == pytest.approx(np.quantile(all_kl, 0.99))
    assert summary.same_top_share.value == pytest.approx(sum(item.same_top for item in items) / tokens)
    assert (summary.num_tokens, summary.perplexity_ratio.n) == (tokens, 40)
    assert decode(DriftSummary, encode(summary), source="memory") == summary


def test_drift_intervals_match_a_plain_bootstrap_over_clusters():
    items = some_items(num=60, per_cluster=2)
    clusters = [items[i : i + 2] for i in range(0, 60, 2)]
    generator = random.Random(5)
    ratios = []
    for _ in range(4000):
        drawn = [item for cluster in generator.choices(clusters, k=len(clusters)) for item in cluster]
        gain = sum(item.nll_tuned - item.nll_base for item in drawn)
        ratios.append(np.exp(gain / sum(item.num_tokens for item in drawn)))
    found = summarise_drift(items).perplexity_ratio
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert (found.lower, found.upper) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_drift_is_the_same_for_any_order_and_the_same_seed_only():
    items = some_items(per_cluster=4)
    for seed in range(20):
        assert summarise_drift(random.Random(seed).sample(items, len(items))) == summarise_drift(items)
    assert summarise_drift(items, seed=1).kl_mean.lower != summarise_drift(items, seed=0).kl_mean.lower


def test_a_model_that_did_not_move_has_a_ratio_of_exactly_one():
    items = [
        DriftItem(
            id=str(i),
            cluster=str(i),
            num_tokens=2,
            nll_base=1.5,
            nll_tuned=1.5,
            kl_tokens=(0.0, 0.0),
            same_top=2,
            **NO_ROUTING,
        )
        for i in range(5)
    ]
    ratio = summarise_drift(items).perplexity_ratio
    assert (ratio.value, ratio.lower, ratio.upper) == (1.0, 1.0, 1.0)


def test_tokens_that_all_stay_the_same_may_differ_elsewhere():
    """With one cluster for each token the interval is scipy's of Wilson."""
    items = [replace(item, num_tokens=1, kl_tokens=(0.0,), same_top=1) for item in some_items(num=20)]
    expected = binomtest(20, 20).proportion_ci(0.95, method="wilson")
    share = summarise_drift(items).same_top_share
    assert (share.value, share.lower, share.upper) == pytest.approx((1.0, expected.low, 1.0))
    items[0] = replace(items[0], same_top=0)
    expected = binomtest(19, 20).proportion_ci(0.95, method="wilson")
    share = summarise_drift(items).same_top_share
    assert (share.value, share.lower, share.upper) == pytest.approx((0.95, expected.low, expected.high))


def test_one_cluster_carries_no_interval():
    summary = summarise_drift(some_items(num=3, per_cluster=3))
    for found in (summary.kl_mean, summary.same_top_share):
        assert (found.lower, found.upper, found.n) == (None, None, 1)


def test_no_text_and_a_text_without_a_token_are_errors_with_a_hint():
    empty = DriftItem(
        id="x", cluster="x", num_tokens=0, nll_base=0.0, nll_tuned=0.0, kl_tokens=(), same_top=0, **NO_ROUTING
    )
    for items in ([], [empty]):
        with pytest.raises(UsageError) as caught:
            summarise_drift(items)
        assert caught.value.hint


def test_a_perplexity_that_no_number_holds_is_refused():
    (first, *others) = some_items(4)
    destroyed = replace(first, nll_tuned=800.0 * first.num_tokens)
    with pytest.raises(NumericError, match=r"mean probability of exp\(-800\)"):
        summarise_drift([destroyed, *others])
