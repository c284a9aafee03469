"""Routing counts without a model: random but consistent, with or without a planted difference."""

from __future__ import annotations

import dataclasses

import numpy as np

from moe_cli.prepare.selection import Rule
from moe_cli.prepare.uncertainty import estimate_risk_differences
from moe_cli.records import ModelIdentity, RiskDifferences, RoutingCounts
from tests import builders


def counts_of(pairs: int, layers: int = 2, experts: int = 8, top_k: int = 2, seed: int = 0, shift: float = 0.0):
    """`shift` favours expert 0 of every layer on the unsafe side; every token gives its experts equal weights."""
    random = np.random.default_rng(seed)
    seen = random.integers(5, 20, size=(pairs, 2))
    routed = np.zeros((pairs, 2, layers, experts), dtype=np.int64)
    for pair, side, layer in np.ndindex(pairs, 2, layers):
        weights = np.ones(experts)
        weights[0] += shift * side
        for _ in range(seen[pair, side]):
            chosen = random.choice(experts, size=top_k, replace=False, p=weights / weights.sum())
            routed[pair, side, layer, chosen] += 1
    names = tuple(f"pair-{number}" for number in range(pairs))
    return RoutingCounts(
        layers=tuple(range(1, layers + 1)),
        top_k=top_k,
        pair_ids=names,
        clusters=names,
        routed=routed,
        seen=seen,
        gates=routed / top_k,
        gradients=None,
    )


def swapped(counts: RoutingCounts) -> RoutingCounts:
    """The same pairs with their sides exchanged."""
    return dataclasses.replace(
        counts, routed=counts.routed[:, ::-1].copy(), seen=counts.seen[:, ::-1].copy(), gates=counts.gates[:, ::-1]
    )


def rule(method="risk_diff", num_experts=8, threshold=0.05, top_k=50, max_candidates=4, **more) -> Rule:
    """A rule with the settings a test does not care about."""
    return Rule(method, threshold, top_k, max_candidates, num_experts, **more)


def measured(counts: RoutingCounts, batches, resamples: int = 20, seed: int = 0, by: Rule | None = None):
    """Risk differences with few resamples."""
    by = by or rule(num_experts=counts.routed.shape[-1])
    return estimate_risk_differences(counts, batches, by, resamples=resamples, seed=seed)


def risk_of(per_batch, pooled, **changes) -> RiskDifferences:
    """Risk differences that are given instead of counted."""
    per_batch, pooled = np.array(per_batch, dtype=float), np.array(pooled, dtype=float)
    nothing = np.zeros_like(pooled)
    values = dict.fromkeys(("lower", "upper", "p_value", "q_value", "stability"), nothing)
    values |= {"mean": per_batch.mean(0), "batch_lower": per_batch, "batch_upper": per_batch}
    return RiskDifferences(
        layers=tuple(range(pooled.shape[0])),
        per_batch=per_batch,
        pooled=pooled,
        num_resamples=1,
        num_permutations=1000,
        num_clusters=20,
        **(values | {name: np.array(value, dtype=float) for name, value in changes.items()}),
    )


def identity(layers=(1, 2), experts=8, name="test/model") -> ModelIdentity:
    """A model that exists nowhere, 100 parameters an expert, half of all parameters in experts."""
    return builders.identity(
        name=name,
        fingerprint="f" * 64,
        layers=layers,
        num_experts=experts,
        top_k=2,
        total_params=2 * 100 * len(layers) * experts,
    )
