"""Risk differences and their parts with uncertainty, from resamples of whole clusters.

Clusters are drawn (and swapped) whole, and the same seed gives the same numbers. An interval is undefined where a
resample leaves the difference undefined. Stability is the share of resamples in which a rule takes an expert. Pure.

Letters of shapes: C clusters, R resamples, B batches, L expert layers, E experts, X = L * E (flat, layer-major).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_cli.prepare.contrasts import (
    Quantity,
    clusters_of,
    harm_clusters,
    is_recorded,
    quantity_of,
    quantity_of_batches,
    sum_over_batches,
    wrapper_clusters,
)
from moe_cli.prepare.permutation import p_values, q_values
from moe_cli.prepare.ranking import Bools, Floats
from moe_cli.prepare.risk import Clusters, cluster_counts, mean_of_batches, pooled
from moe_cli.prepare.selection import Rule, by_risk
from moe_cli.records import RiskDifferences, RoutingCounts
from moe_cli.stats.clusters import cluster_draws

TAIL = 0.025  # each side of a 95 % interval
CHUNK_RESAMPLES = 250
CHUNK_EXPERTS = 128  # columns whose resamples are ordered at once: fits the cache
Batches = Sequence[Sequence[int]]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class ResampledValues:
    """Interval and stability of every expert, from resampled clusters."""

    lower_X: Floats
    upper_X: Floats
    stability_X: Floats  # share of resamples in which the rule takes the expert


def bootstrap_weights(sizes: Sequence[int], resamples: int, random: np.random.Generator) -> NDArray[np.unsignedinteger]:
    """How often each cluster is drawn [R, C], with replacement, as many of each kind as there are."""
    weights_RC = np.empty((resamples, sum(sizes)), dtype=np.min_scalar_type(max(sizes)))  # no cluster is drawn oftener
    for start, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
        for rows in _chunks(weights_RC[:, start : start + size]):
            rows[:] = cluster_draws(size, len(rows), random)
    return weights_RC


def resample(
    clusters: Clusters, resamples: int, random: np.random.Generator, taken: Callable[[Floats], Bools]
) -> ResampledValues:
    """95 % percentile interval and stability of every expert; `taken` applies the rule to values [R, X]."""
    values_RX = bootstrap_values(clusters, resamples, random)
    taken_X = sum(np.count_nonzero(taken(chunk), axis=0) for chunk in _chunks(values_RX)) / resamples
    lower_X, upper_X = interval(values_RX)
    return ResampledValues(lower_X, upper_X, taken_X)


def bootstrap_values(clusters: Clusters, resamples: int, random: np.random.Generator) -> Floats:
    """Pooled risk differences of resampled clusters [R, X]."""
    weights_RC = bootstrap_weights(clusters.sizes, resamples, random)
    values_RX = np.empty((resamples, clusters.num_experts))
    for rows, weights_of_rows in zip(_chunks(values_RX), _chunks(weights_RC), strict=True):
        rows[:] = pooled(clusters, weights_of_rows.astype(np.float64))
    return values_RX


def batch_interval(clusters: Clusters, resamples: int, random: np.random.Generator) -> Floats:
    """95 % percentile interval [2, X] without keeping the resamples; undefined with a single cluster."""
    if min(clusters.sizes) < 2:
        return np.full((2, clusters.num_experts), np.nan)
    weights_RC = bootstrap_weights(clusters.sizes, resamples, random).astype(np.float64)
    chunks = (clusters.only(chunk) for chunk in _expert_chunks(clusters.num_experts))
    return np.concatenate([_bounds(pooled(chunk, weights_RC)) for chunk in chunks], axis=1)


def interval(values_RX: Floats) -> Floats:
    """2.5 % and 97.5 % percentiles [2, X], interpolated as numpy does; NaN where a resample is undefined."""
    return np.concatenate([_bounds(values_RX[:, chunk]) for chunk in _expert_chunks(values_RX.shape[1])], axis=1)


def _bounds(values_RX: Floats) -> Floats:
    """Lower and upper percentile [2, X]."""
    last = len(values_RX) - 1
    rank = TAIL * last
    below = int(rank)
    above = min(below + 1, last)
    ordered_XR = np.ascontiguousarray(values_RX.T)
    ordered_XR.partition((below, above, last - above, last - below), axis=1)
    fraction = rank - below
    lower_X = ordered_XR[:, below] * (1 - fraction) + ordered_XR[:, above] * fraction
    upper_X = ordered_XR[:, last - below] * (1 - fraction) + ordered_XR[:, last - above] * fraction
    undefined_X = np.isnan(values_RX).any(0)
    return np.where(undefined_X, np.nan, [lower_X, upper_X])


def _expert_chunks(num_experts: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK_EXPERTS) for start in range(0, num_experts, CHUNK_EXPERTS))


def _chunks(rows: NDArray[Scalar]) -> Iterator[NDArray[Scalar]]:
    return (rows[start : start + CHUNK_RESAMPLES] for start in range(0, len(rows), CHUNK_RESAMPLES))


def estimate_risk_differences(
    counts: RoutingCounts,
    batches: Batches,
    rule: Rule,
    *,
    resamples: int,
    seed: int,
    quantity: Quantity = "risk_diff",
) -> RiskDifferences:
    """Risk differences, or a part of them, of the pairs in `batches` (indices into `counts`), with all their evidence.

    Per batch; as the mean of the batches (the original definition) and pooled from the summed counts. Intervals are
    percentiles of a bootstrap over clusters, of the pooled value and, of the risk difference alone, of each batch;
    stability is the share of these resamples in which `by_risk` takes the expert. p and q are of the pooled value.
    """
    shape = counts.routed.shape[-2:]
    clusters = clusters_of(quantity, counts, used_pairs(batches))
    pooled_X = sum_over_batches(clusters)
    resampled = resample(clusters, resamples, np.random.default_rng([seed, 1]), lambda values: by_risk(rule, values))
    p_1X, num_permutations = p_values(clusters, pooled_X[None], resamples, np.random.default_rng([seed, 2]))
    per_batch_BLE = quantity_of_batches(quantity, counts, batches)
    lower_BX = upper_BX = np.full(per_batch_BLE.shape, np.nan)
    if quantity == "risk_diff":
        bounds_B2X = [
            batch_interval(cluster_counts(counts, batch), resamples, np.random.default_rng([seed, 7, index]))
            for index, batch in enumerate(batches)
        ]
        lower_BX, upper_BX = np.stack(bounds_B2X, axis=1)
    return RiskDifferences(
        layers=counts.layers,
        per_batch=per_batch_BLE,
        mean=mean_of_batches(per_batch_BLE),
        pooled=pooled_X.reshape(shape),
        lower=resampled.lower_X.reshape(shape),
        upper=resampled.upper_X.reshape(shape),
        batch_lower=lower_BX.reshape(-1, *shape),
        batch_upper=upper_BX.reshape(-1, *shape),
        p_value=p_1X.reshape(shape),
        q_value=q_values(p_1X).reshape(shape),
        stability=resampled.stability_X.reshape(shape),
        num_resamples=resamples,
        num_permutations=num_permutations,
        num_clusters=clusters.num_clusters,
    )


def point_differences(counts: RoutingCounts, batches: Batches, quantity: Quantity) -> RiskDifferences:
    """Like `estimate_risk_differences`, but without resampling and swapping.

    Intervals, p, q and stability are undefined.
    """
    clusters = clusters_of(quantity, counts, used_pairs(batches))
    per_batch_BLE = quantity_of_batches(quantity, counts, batches)
    nothing_BLE = np.full(per_batch_BLE.shape, np.nan)
    nothing_LE = nothing_BLE[0]
    return RiskDifferences(
        layers=counts.layers,
        per_batch=per_batch_BLE,
        mean=mean_of_batches(per_batch_BLE),
        pooled=sum_over_batches(clusters).reshape(nothing_LE.shape),
        lower=nothing_LE,
        upper=nothing_LE,
        batch_lower=nothing_BLE,
        batch_upper=nothing_BLE,
        p_value=nothing_LE,
        q_value=nothing_LE,
        stability=nothing_LE,
        num_resamples=0,
        num_permutations=0,
        num_clusters=clusters.num_clusters,
    )


def used_pairs(batches: Batches) -> tuple[int, ...]:
    """The pairs of all batches, ascending."""
    return tuple(sorted({index for batch in batches for index in batch}))


@dataclass(frozen=True, slots=True)
class ExpertParts:
    """Parts of every expert's risk difference; None where the counts for them were not recorded."""

    text: Floats | None  # [L, E] of the run
    text_of_batches: Floats | None  # [B, L, E]
    wrapper: Floats | None  # [L, E] of the run
    harm: Floats | None  # [L, E] of the run


def expert_parts(counts: RoutingCounts, batches: Batches) -> ExpertParts:
    """The text of the run and of every batch, and the wrapper and the harm of the run."""
    text = text_of_batches = wrapper = harm = None
    used = used_pairs(batches)
    if is_recorded("text", counts):
        text = quantity_of("text", counts, used)
        text_of_batches = quantity_of_batches("text", counts, batches)
    if is_recorded("did", counts):
        shape = counts.routed.shape[-2:]
        wrapper = sum_over_batches(wrapper_clusters(counts)).reshape(shape)
        harm = sum_over_batches(harm_clusters(counts, used)).reshape(shape)
    return ExpertParts(text, text_of_batches, wrapper, harm)
