"""Risk differences of expert activation, with their uncertainty.

Comes in: routing counts of pairs and which pairs a batch touches. Goes out: rate on the unsafe side minus rate on the
safe side, per batch and aggregated. Always holds: within [-1, 1]; changes sign when the sides are swapped; NaN (never
0) where a side saw no token. Pure.

Source: SteerMoE (arXiv 2509.09660). Tokens of one answer are not independent, so the unit of uncertainty is the goal:
all pairs of one goal are one cluster that is resampled, or swapped, as a whole.
Letters of shapes: N pairs, C clusters, R resamples, B batches, L expert layers, E experts, X = L * E.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from moe_cli.records import REGIONS, RiskDifferences, RoutingCounts

Floats = NDArray[np.float64]

SAFE, UNSAFE = 0, 1
ANSWER = REGIONS.index("answer")
CONFIDENCE = 0.95
CHUNK_RESAMPLES = 256  # bounds the memory of a bootstrap to a few hundred megabytes at 10,000 experts


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    """Answer-token counts summed within clusters."""

    routed_SCX: Floats  # [side, C, X] tokens whose top-k holds the expert
    seen_SC: Floats  # [side, C] tokens counted
    num_layers: int
    num_experts: int


def rate_difference(routed_safe: Floats, seen_safe: Floats, routed_unsafe: Floats, seen_unsafe: Floats) -> Floats:
    """`a_unsafe / n_unsafe - a_safe / n_safe`, elementwise; NaN where a side saw no token."""
    with np.errstate(divide="ignore", invalid="ignore"):
        difference: Floats = routed_unsafe / seen_unsafe - routed_safe / seen_safe
    return np.where((seen_safe > 0) & (seen_unsafe > 0), difference, np.nan)


def risk_differences(
    counts: RoutingCounts, batches: Sequence[Sequence[int]], *, resamples: int, seed: int
) -> RiskDifferences:
    """Risk differences of the pairs in `batches` (indices into `counts`), with intervals, p and q values.

    Per batch; as the mean of the batches (the original definition) and pooled from the summed counts. Intervals are
    percentiles of a cluster bootstrap of the pooled value; p-values come from swapping the sides within clusters;
    q-values are Benjamini-Hochberg over all L * E experts.
    """
    shape = counts.routed.shape[-2:]
    used = sorted({index for batch in batches for index in batch})
    clusters = cluster_counts(counts, used)
    pooled_X = pooled(clusters, np.ones((1, clusters.seen_SC.shape[1])))[0]
    lower_X, upper_X = bootstrap_interval(clusters, resamples, np.random.default_rng([seed, 1]))
    p_X = permutation_p_values(clusters, pooled_X, resamples, np.random.default_rng([seed, 2]))
    per_batch_BLE = np.stack([_of_pairs(counts, batch) for batch in batches])
    return RiskDifferences(
        layers=counts.layers,
        per_batch=per_batch_BLE,
        mean=_nanmean(per_batch_BLE),
        pooled=pooled_X.reshape(shape),
        lower=lower_X.reshape(shape),
        upper=upper_X.reshape(shape),
        p_value=p_X.reshape(shape),
        q_value=_q_values(p_X).reshape(shape),
        num_resamples=resamples,
    )


def cluster_counts(counts: RoutingCounts, used: Sequence[int]) -> ClusterCounts:
    """Sum the answer-token counts of the pairs `used` within their clusters."""
    names = sorted({counts.clusters[index] for index in used})
    place = {name: number for number, name in enumerate(names)}
    _, _, _, num_layers, num_experts = counts.routed.shape
    routed_SCX = np.zeros((2, len(names), num_layers * num_experts))
    seen_SC = np.zeros((2, len(names)))
    for index in used:
        cluster = place[counts.clusters[index]]
        routed_SCX[:, cluster] += counts.routed[index, :, ANSWER].reshape(2, -1)
        seen_SC[:, cluster] += counts.seen[index, :, ANSWER]
    return ClusterCounts(routed_SCX, seen_SC, num_layers, num_experts)


def pooled(clusters: ClusterCounts, weights_RC: Floats) -> Floats:
    """Pooled risk differences [R, X] when cluster c counts `weights_RC[r, c]` times."""
    routed, seen = clusters.routed_SCX, clusters.seen_SC
    return rate_difference(
        weights_RC @ routed[SAFE],
        (weights_RC @ seen[SAFE])[:, None],
        weights_RC @ routed[UNSAFE],
        (weights_RC @ seen[UNSAFE])[:, None],
    )


def pooled_swapped(clusters: ClusterCounts, swaps_RC: Floats) -> Floats:
    """Pooled risk differences [R, X] when the sides of cluster c are swapped where `swaps_RC[r, c]` is 1."""
    routed, seen = clusters.routed_SCX, clusters.seen_SC
    moved_RX = swaps_RC @ (routed[UNSAFE] - routed[SAFE])
    moved_R1 = (swaps_RC @ (seen[UNSAFE] - seen[SAFE]))[:, None]
    return rate_difference(
        routed[SAFE].sum(0) + moved_RX,
        seen[SAFE].sum() + moved_R1,
        routed[UNSAFE].sum(0) - moved_RX,
        seen[UNSAFE].sum() - moved_R1,
    )


def bootstrap_weights(num_clusters: int, resamples: int, random: np.random.Generator) -> Floats:
    """How often each cluster is drawn [R, C] when C clusters are drawn with replacement."""
    return random.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=resamples).astype(np.float64)


def random_swaps(num_clusters: int, draws: int, random: np.random.Generator) -> Floats:
    """A fair coin for each cluster [R, C]."""
    return random.integers(0, 2, size=(draws, num_clusters)).astype(np.float64)


def bootstrap_interval(clusters: ClusterCounts, resamples: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """2.5 % and 97.5 % percentiles [X] of the pooled value over resampled clusters; NaN where a resample has none."""
    weights_RC = bootstrap_weights(clusters.seen_SC.shape[1], resamples, random)
    values_RX = np.concatenate([pooled(clusters, part) for part in _chunks(weights_RC)])
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(values_RX, [tail, 1 - tail], axis=0)
    return lower, upper


def permutation_p_values(clusters: ClusterCounts, pooled_X: Floats, draws: int, random: np.random.Generator) -> Floats:
    """Two-sided p-values [X]: share of swaps with an absolute value at least as large, (1 + k) / (1 + draws)."""
    swaps_RC = random_swaps(clusters.seen_SC.shape[1], draws, random)
    reached_X = np.zeros_like(pooled_X)
    for part in _chunks(swaps_RC):
        reached_X += (np.abs(pooled_swapped(clusters, part)) >= np.abs(pooled_X) - 1e-12).sum(0)
    return np.where(np.isnan(pooled_X), np.nan, (1 + reached_X) / (1 + draws))


def _of_pairs(counts: RoutingCounts, pairs: Sequence[int]) -> Floats:
    """Pooled risk difference [L, E] of some pairs."""
    routed_SLE = counts.routed[list(pairs), :, ANSWER].sum(0).astype(np.float64)
    seen_S = counts.seen[list(pairs), :, ANSWER].sum(0).astype(np.float64)
    return rate_difference(routed_SLE[SAFE], seen_S[SAFE], routed_SLE[UNSAFE], seen_S[UNSAFE])


def _nanmean(values_BLE: Floats) -> Floats:
    """Mean over the batches where it is defined; NaN where it is nowhere."""
    defined = (~np.isnan(values_BLE)).sum(0)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.nansum(values_BLE, axis=0) / np.where(defined > 0, defined, np.nan)
    return mean


def _q_values(p_X: Floats) -> Floats:
    q_X = np.full_like(p_X, np.nan)
    defined = ~np.isnan(p_X)
    if defined.any():
        q_X[defined] = false_discovery_control(p_X[defined])
    return q_X


def _chunks(rows: Floats) -> list[Floats]:
    return [rows[start : start + CHUNK_RESAMPLES] for start in range(0, len(rows), CHUNK_RESAMPLES)]
