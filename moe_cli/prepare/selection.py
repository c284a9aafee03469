"""Which experts each batch may update, and what that selection is worth beside noise.

Comes in: risk differences, counts and a `Rule`. Goes out: candidates of the run, experts of every batch, their union,
how stable they are, and the union that the same rule finds when the sides are swapped at random. Always holds:
deterministic; ties by (layer, expert); the same result for any order of pairs within a batch. Pure.

Letters of shapes: B batches, L expert layers, E experts, X = L * E (flat, layer-major), R draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moe_cli.config.settings import Method
from moe_cli.prepare.risk import (
    ClusterCounts,
    Floats,
    bootstrap_weights,
    cluster_counts,
    pooled,
    pooled_swapped,
    random_swaps,
)
from moe_cli.records import Expert, NullUnion, RiskDifferences, RoutingCounts

Ints = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Rule:
    """How experts are chosen."""

    method: Method
    threshold: float  # candidates have a pooled risk difference above it
    top_k: int  # most experts of one batch
    max_candidates: int | None  # what the budget has room for; None: the original rule without candidates
    named: tuple[int, ...] = ()  # flat indices of the method `file`


@dataclass(frozen=True, slots=True)
class Chosen:
    """Flat expert indices."""

    candidates: tuple[int, ...]  # ascending
    batches: tuple[tuple[int, ...], ...]  # B; ascending each

    @property
    def union(self) -> tuple[int, ...]:
        """Every expert that any batch selected, ascending."""
        return tuple(sorted({index for batch in self.batches for index in batch}))


def choose(rule: Rule, risk: RiskDifferences, *, seed: int) -> Chosen:
    """Candidates of the run, then the experts of every batch.

    Batch b selects the candidates with a risk difference above 0 in b, at most the `top_k` largest; with the method
    `all` it selects every expert. Without candidates (the original rule) it selects the `top_k` largest above the
    threshold.
    """
    per_batch_BX = risk.per_batch.reshape(len(risk.per_batch), -1)
    candidates = _candidates(rule, risk.pooled.ravel(), risk.pooled.shape[1], seed)
    if rule.method == "all":
        return Chosen(candidates, tuple(candidates for _ in per_batch_BX))
    return Chosen(candidates, tuple(_of_batch(rule, values_X, candidates) for values_X in per_batch_BX))


def stability(
    rule: Rule, counts: RoutingCounts, batches: Sequence[Sequence[int]], *, resamples: int, seed: int
) -> Floats:
    """Share of bootstrap resamples [X] in which an expert is a candidate by its risk difference."""
    clusters = _clusters(counts, batches)
    weights_RC = bootstrap_weights(clusters.seen_SC.shape[1], resamples, np.random.default_rng([seed, 3]))
    chosen_X = np.zeros(clusters.routed_SCX.shape[2])
    for weights_C in weights_RC:
        chosen_X[list(_by_risk(rule, pooled(clusters, weights_C[None])[0]))] += 1
    return chosen_X / resamples


def null_union(
    rule: Rule, counts: RoutingCounts, batches: Sequence[Sequence[int]], *, draws: int, seed: int
) -> NullUnion:
    """Size of the union that the same rule selects when the sides of each cluster are swapped at random."""
    clusters = _clusters(counts, batches)
    names = sorted({counts.clusters[index] for batch in batches for index in batch})
    per_batch = [cluster_counts(counts, list(batch)) for batch in batches]
    places = [[names.index(name) for name in sorted({counts.clusters[i] for i in batch})] for batch in batches]
    sizes = []
    for swaps_C in random_swaps(len(names), draws, np.random.default_rng([seed, 4])):
        pooled_X = pooled_swapped(clusters, swaps_C[None])[0]
        values_BX = [
            pooled_swapped(part, swaps_C[place][None])[0] for part, place in zip(per_batch, places, strict=True)
        ]
        candidates = _by_risk(rule, pooled_X)
        sizes.append(len({index for values_X in values_BX for index in _of_batch(rule, values_X, candidates)}))
    low, high = np.quantile(sizes, [0.025, 0.975])
    return NullUnion(draws=draws, mean=float(np.mean(sizes)), lower=float(low), upper=float(high))


def as_experts(indices: Sequence[int], layers: Sequence[int], num_experts: int) -> tuple[Expert, ...]:
    """Flat indices as (layer, index)."""
    return tuple(Expert(layer=layers[i // num_experts], index=i % num_experts) for i in indices)


def as_masks(chosen: Chosen, num_layers: int, num_experts: int) -> NDArray[np.bool_]:
    """`mask[b, l, e]`: batch b selected expert e of the l-th expert layer; [B, L, E]."""
    masks_BX = np.zeros((len(chosen.batches), num_layers * num_experts), dtype=np.bool_)
    for batch, indices in enumerate(chosen.batches):
        masks_BX[batch, list(indices)] = True
    return masks_BX.reshape(-1, num_layers, num_experts)


def _candidates(rule: Rule, pooled_X: Floats, num_experts: int, seed: int) -> tuple[int, ...]:
    if rule.method == "all":
        return tuple(range(len(pooled_X)))
    if rule.method == "file":
        return tuple(sorted(rule.named))
    by_risk = _by_risk(rule, pooled_X)
    if rule.method == "risk_diff":
        return by_risk
    random = np.random.default_rng([seed, 5])
    drawn: list[int] = []
    for layer, wanted in enumerate(
        np.bincount([i // num_experts for i in by_risk], minlength=len(pooled_X) // num_experts)
    ):
        drawn += [layer * num_experts + int(i) for i in random.choice(num_experts, size=int(wanted), replace=False)]
    return tuple(sorted(drawn))


def _by_risk(rule: Rule, pooled_X: Floats) -> tuple[int, ...]:
    """The largest pooled risk differences above the threshold that the budget has room for; all experts without one."""
    if rule.max_candidates is None:
        return tuple(range(len(pooled_X)))
    return _largest(pooled_X, rule.max_candidates, rule.threshold)


def _of_batch(rule: Rule, values_X: Floats, candidates: Sequence[int]) -> tuple[int, ...]:
    above = 0.0 if rule.max_candidates is not None else rule.threshold
    allowed_X = np.full_like(values_X, np.nan)
    allowed_X[list(candidates)] = values_X[list(candidates)]
    return _largest(allowed_X, rule.top_k, above)


def _largest(values_X: Floats, most: int, above: float) -> tuple[int, ...]:
    """Ascending indices of at most `most` largest values above `above`; ties by index; NaN never."""
    order = np.lexsort((np.arange(len(values_X)), -np.nan_to_num(values_X, nan=-np.inf)))
    return tuple(sorted(int(i) for i in order[:most] if values_X[i] > above))


def _clusters(counts: RoutingCounts, batches: Sequence[Sequence[int]]) -> ClusterCounts:
    return cluster_counts(counts, sorted({index for batch in batches for index in batch}))
