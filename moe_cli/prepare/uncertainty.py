"""Risk differences with their uncertainty.

Comes in: routing counts, the batches over them, and the rule whose stability is asked for. Goes out: `RiskDifferences`,
of the risk difference or of a part of it.
Always holds: the unit that is resampled and swapped is the cluster; the same seed gives the same numbers. Pure.

Letters of shapes: B batches, L expert layers, E experts, X = L * E (flat, layer-major).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_cli.prepare.bootstrap import batch_interval, resample
from moe_cli.prepare.contrasts import Quantity, clusters_of, quantity_of, sum_over_batches
from moe_cli.prepare.permutation import p_values, q_values
from moe_cli.prepare.risk import mean_of_batches
from moe_cli.prepare.selection import Rule, by_risk
from moe_cli.records import RiskDifferences, RoutingCounts

Batches = Sequence[Sequence[int]]


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
    percentiles of a bootstrap over clusters, of the pooled value and of each batch; stability is the share of these
    resamples in which `by_risk` takes the expert. p and q are of the pooled value.
    """
    shape = counts.routed.shape[-2:]
    clusters = clusters_of(quantity, counts, used_pairs(batches))
    pooled_X = sum_over_batches(clusters)
    again = resample(clusters, resamples, np.random.default_rng([seed, 1]), lambda values: by_risk(rule, values))
    p_1X, num_permutations = p_values(clusters, pooled_X[None], resamples, np.random.default_rng([seed, 2]))
    per_batch_BLE = np.stack([quantity_of(quantity, counts, batch) for batch in batches])
    bounds_B2X = [
        batch_interval(clusters_of(quantity, counts, batch), resamples, np.random.default_rng([seed, 7, index]))
        for index, batch in enumerate(batches)
    ]
    lower_BX, upper_BX = np.stack(bounds_B2X, axis=1)
    return RiskDifferences(
        layers=counts.layers,
        per_batch=per_batch_BLE,
        mean=mean_of_batches(per_batch_BLE),
        pooled=pooled_X.reshape(shape),
        lower=again.lower_X.reshape(shape),
        upper=again.upper_X.reshape(shape),
        batch_lower=lower_BX.reshape(-1, *shape),
        batch_upper=upper_BX.reshape(-1, *shape),
        p_value=p_1X.reshape(shape),
        q_value=q_values(p_1X).reshape(shape),
        stability=again.stability_X.reshape(shape),
        num_resamples=resamples,
        num_permutations=num_permutations,
        num_clusters=clusters.num_clusters,
    )


def point_differences(counts: RoutingCounts, batches: Batches, quantity: Quantity) -> RiskDifferences:
    """As `risk_differences`, without resampling and swapping: the rest is undefined."""
    clusters = clusters_of(quantity, counts, used_pairs(batches))
    per_batch_BLE = np.stack([quantity_of(quantity, counts, batch) for batch in batches])
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
    """Every pair that a batch touches, ascending."""
    return tuple(sorted({index for batch in batches for index in batch}))
